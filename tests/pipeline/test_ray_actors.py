import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

from dragoman.errors import PipelineError
from dragoman.pipeline.recipes import Recipe
from dragoman.pipeline.replay import TRIES
from dragoman.pipeline.session import Session, run
from dragoman.stages.messages import CHUNK_SAMPLES
from tests.pipeline.chains import in_process, on_ray
from tests.pipeline.fake_stages import (
    POISON,
    CountingTokens,
    Deadly,
    Making,
    bare,
    bursts,
    fakes,
    tone,
)
from tests.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.usefixtures("with_ray")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def graph():
    made = on_ray(fakes())
    yield made
    made.stop()


def test_the_graph_gives_the_events_of_the_local_chain(graph):
    local = in_process(fakes())
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, int(23.4 * CHUNK_SAMPLES))
    audio = audio.astype(np.float32)
    here = bare(run(local, [audio], pace="fast"))
    there = bare(run(graph, np.array_split(audio, 7), pace="fast"))
    local.stop()
    assert len(here) == 25 and there == here


def test_the_same_with_the_real_segmenter():
    from dragoman.stages.segment import SegmentStage

    stages = (Recipe("segment", Making(SegmentStage())), *fakes()[1:])
    local, graph = in_process(stages), on_ray(stages)
    here = bare(run(local, [bursts()], pace="fast"))
    there = bare(run(graph, [bursts()], pace="fast"))
    local.stop()
    graph.stop()
    assert len([c for c in here if c.kind == "final"]) == 2
    assert there == here


def test_many_sessions_share_the_actors(graph):
    heard = {}

    def listen(name, chunks):
        heard[name] = bare(run(graph, [tone(chunks)], pace="fast", session_name=name))

    threads = [
        threading.Thread(target=listen, args=(f"s{chunks}", chunks)) for chunks in range(10, 18)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(len(captions) for captions in heard.values()) == sorted(
        chunks + (chunks % 5 > 0) for chunks in range(10, 18)
    )
    assert graph.sessions() == []


def test_a_poisoned_session_fails_alone(graph):
    good = Session(graph, [tone(12)], name="good")
    captions = iter(good)
    first = next(captions)
    with pytest.raises(PipelineError, match="poison at piece 2") as raised:
        bad = np.concatenate([tone(2), tone(1, POISON), tone(40)])
        list(run(graph, [bad], pace="fast", session_name="bad"))
    assert (raised.value.stage, raised.value.kind) == ("encode", "ValueError")
    rest = list(captions)
    whole = [first, *rest]  # on a busy machine some updates are skipped
    assert [c.seq for c in whole] == list(range(len(whole)))
    assert [c.kind for c in whole].count("final") == 3
    assert rest[-1].kind == "final" and rest[-1].end == 12 * CHUNK_SAMPLES
    assert len(list(run(graph, [tone(5)], pace="fast", session_name="bad"))) == 5
    assert graph.sessions() == []


def test_errors_that_cannot_be_pickled_still_arrive_as_text():
    class Unpicklable(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")
            self.lock = threading.Lock()

    class Failing(CountingTokens):
        def step(self, item, state):
            if state == 4:  # behind the warm-up
                raise Unpicklable("this", "that")
            return super().step(item, state)

    segment, _, translate = fakes()
    graph = on_ray((segment, Recipe("encode", Making(Failing())), translate))
    with pytest.raises(PipelineError, match="Unpicklable: this and that"):
        list(run(graph, [tone(5)], pace="fast"))
    graph.stop()


def test_a_stage_that_cannot_be_made_stops_the_start():
    broken = Recipe("encode", Making(None, ValueError("no such folder")))
    segment, _, translate = fakes()
    with pytest.raises(PipelineError, match="no such folder") as raised:
        on_ray((segment, broken, translate))
    assert raised.value.stage == "encode"


@pytest.fixture
def deadly():
    """A graph whose encoder's process ends at a poisoned sample."""
    segment, _, translate = fakes()
    made = on_ray((segment, Recipe("encode", Making(Deadly())), translate))
    yield made
    made.stop()


def test_sound_that_kills_every_new_process_ends_its_session_alone(deadly):
    """After some tries; a neighbour meanwhile loses nothing, and the next one finds all there."""
    expected = bare(run(deadly, [tone(12)], pace="fast"))
    go_on = threading.Event()

    def source():
        yield tone(7)
        go_on.wait(PATIENCE_S)
        yield tone(5)

    warned: list[str] = []
    neighbour = iter(Session(deadly, source(), pace="fast", warn=warned.append))
    heard = [next(neighbour)]
    with pytest.raises(PipelineError, match=f"ended {TRIES} times in a row.*start again"):
        list(run(deadly, [tone(2), tone(1, POISON)], pace="fast"))
    go_on.set()
    assert bare([*heard, *neighbour]) == expected != []
    assert "a new one takes its place" in warned[0]
    assert bare(run(deadly, [tone(12)], pace="fast")) == expected
    assert deadly.sessions() == []


def python(script: str) -> subprocess.CompletedProcess[str]:
    """What a Python of its own says to the script."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def end(process: int) -> None:
    """Kills a process, and waits until it is gone."""
    os.kill(process, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{process}").exists())


def test_a_stage_that_dies_while_nobody_speaks_is_replaced():
    graph = on_ray(fakes())
    expected = bare(run(graph, [tone(5)], pace="fast"))
    for process in graph.pids():
        end(process)
    assert bare(run(graph, [tone(5)], pace="fast")) == expected != []
    assert len(graph) == 2
    graph.stop()


def test_a_stage_that_cannot_be_loaded_again_says_why_until_it_can(tmp_path):
    class Elsewhere:
        """Makes a stage while a file is there."""

        def __call__(self):
            if not (tmp_path / "model").exists():
                raise ValueError("no such folder")
            return CountingTokens()

    (tmp_path / "model").touch()
    segment, _, translate = fakes()
    graph = on_ray((segment, Recipe("encode", Elsewhere()), translate))
    expected = bare(run(graph, [tone(5)], pace="fast"))
    end(graph.pids()[0])
    (tmp_path / "model").unlink()
    for _ in range(2):
        with pytest.raises(PipelineError, match="no such folder"):
            list(run(graph, [tone(5)], pace="fast"))
    (tmp_path / "model").touch()
    assert bare(run(graph, [tone(5)], pace="fast")) == expected
    graph.stop()


def test_it_starts_from_any_folder_quietly_and_without_torch_in_the_driver(tmp_path):
    """A folder named like one of ours lies in the working directory, where workers look first."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "__init__.py").write_text("raise ImportError('the wrong stages')")
    script = """
        import sys
        from tests.pipeline.chains import on_ray
        from dragoman.pipeline.session import run
        from tests.pipeline.fake_stages import fakes, tone
        graph = on_ray(fakes())
        print(len(list(run(graph, [tone(5)], pace="fast"))), "torch" in sys.modules)
        graph.stop()
    """
    program = tmp_path / "bin" / "program.py"
    program.parent.mkdir()
    program.write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},  # for the stages of these tests
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("5 False\n", "", 0)


def test_a_ray_without_a_gpu_refuses_stages_that_want_one_at_once():
    script = """
        import time
        from dataclasses import replace
        import ray
        from tests.pipeline.chains import on_ray, pool_of
        from tests.pipeline.fake_stages import fakes
        ray.init(address="local", num_cpus=4, num_gpus=0, include_dashboard=False)
        stages = [replace(stage, gpus=0.4) for stage in fakes()]
        begin = time.monotonic()
        for start in (lambda: on_ray(stages), lambda: pool_of(stages[1:])):
            try:
                start()
            except Exception as error:
                print(type(error).__name__, error)
        print(time.monotonic() - begin < 30)
    """
    done = python(script)
    *said, soon = done.stdout.splitlines()
    assert len(said) == 2 and soon == "True"
    assert all(s.startswith("DeviceError --device cuda: no node of this Ray has a") for s in said)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no thread yields alone")
def test_a_spare_process_yields_while_it_imports_and_not_when_it_works():
    script = """
        import os, sys, threading

        class Watch:
            @staticmethod
            def find_spec(name, path, target=None):
                if name == "torch":
                    print(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

        from dragoman.pipeline.ray_actors import YIELDING, RayRunner
        sys.meta_path.insert(0, Watch)
        RayRunner((), True, None).warm()
        after = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        print(YIELDING, after == os.nice(0), "torch" in sys.modules)
    """
    done = python(script)
    assert done.stdout == "19\n19 True True\n", done.stderr
