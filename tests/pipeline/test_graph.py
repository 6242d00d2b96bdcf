import contextlib
import os
import signal
import socketserver
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray

from pipeline.chain import PipelineError, Recipe
from pipeline.graph import Graph, _knock
from pipeline.local import Local
from pipeline.session import Session, run
from stages.messages import CHUNK_SAMPLES
from tests.pipeline.fake_stages import POISON, CountingSegments, Making, fakes, tone

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def ray_of_our_own():
    """One Ray for all graphs of this module, with room for several."""
    with contextlib.chdir(ROOT):
        ray.init(
            address="local",
            num_cpus=6,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=100 * 2**20,
        )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def graph():
    made = Graph.start(stages=fakes())
    yield made
    made.stop()


def bare(captions):
    return [replace(caption, session="", latency={}) for caption in captions]


def bursts() -> np.ndarray:
    """Two seconds of buzz, silence, a second of buzz, silence: two segments for a detector."""
    time_s = np.arange(2 * 16_000) / 16_000
    buzz = sum(np.sin(2 * np.pi * 150 * k * time_s) / k for k in range(1, 20))
    buzz = (0.2 * buzz).astype(np.float32)
    quiet = np.zeros(16_000, np.float32)
    return np.concatenate([quiet, buzz, quiet, buzz[:16_000], quiet])


def test_the_graph_gives_the_events_of_the_local_chain(graph):
    local = Local.start(stages=fakes())
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, int(23.4 * CHUNK_SAMPLES))
    audio = audio.astype(np.float32)
    here = bare(run(local, [audio], pace="fast"))
    there = bare(run(graph, np.array_split(audio, 7), pace="fast"))
    local.stop()
    assert len(here) == 25 and there == here


def test_the_same_with_the_real_segmenter():
    from stages.segment import SegmentStage

    stages = (Recipe("segment", Making(SegmentStage())), *fakes()[1:])
    local, graph = Local.start(stages=stages), Graph.start(stages=stages)
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
        thread.join(20)
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

    class Failing(CountingSegments):
        def step(self, item, state):
            if item.start:
                raise Unpicklable("this", "that")
            return super().step(item, state)

    graph = Graph.start(stages=(Recipe("segment", Making(Failing())), *fakes()[1:]))
    with pytest.raises(PipelineError, match="Unpicklable: this and that"):
        list(run(graph, [tone(5)], pace="fast"))
    graph.stop()


def test_a_stage_that_cannot_be_made_stops_the_start():
    broken = Recipe("encode", Making(None, ValueError("no such folder")))
    segment, _, translate = fakes()
    with pytest.raises(PipelineError, match="no such folder") as raised:
        Graph.start(stages=(segment, broken, translate))
    assert raised.value.stage == "encode"


def test_a_killed_actor_is_a_clear_error():
    class Dying(CountingSegments):
        def step(self, item, state):
            if item.start:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().step(item, state)

    graph = Graph.start(stages=(Recipe("segment", Making(Dying())), *fakes()[1:]))
    with pytest.raises(PipelineError, match="process of a stage ended"):
        list(run(graph, [tone(5)], pace="fast"))
    graph.stop()


def test_it_starts_from_any_folder_quietly_and_without_torch_in_the_driver(tmp_path):
    """A folder named like one of ours lies in the working directory, where workers look first."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "__init__.py").write_text("raise ImportError('the wrong stages')")
    script = f"""
        import sys
        sys.path[:] = [{str(ROOT)!r}] + [p for p in sys.path if p]
        from pipeline.graph import Graph
        from pipeline.session import run
        from tests.pipeline.fake_stages import fakes, tone
        graph = Graph.start(stages=fakes())
        print(len(list(run(graph, [tone(5)], pace="fast"))), "torch" in sys.modules)
        graph.stop()
    """
    program = tmp_path / "bin" / "program.py"
    program.parent.mkdir()
    program.write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == ("5 False\n", "", 0)


def test_a_ray_without_a_gpu_refuses_stages_that_want_one_at_once():
    script = """
        import time
        from dataclasses import replace
        import ray
        from pipeline.graph import Graph
        from pipeline.workers import Pool
        from tests.pipeline.fake_stages import fakes
        ray.init(address="local", num_cpus=4, num_gpus=0, include_dashboard=False)
        stages = [replace(stage, gpus=0.4) for stage in fakes()]
        begin = time.monotonic()
        for start in (lambda: Graph.start(stages=stages), lambda: Pool.start(stages[1:])):
            try:
                start()
            except Exception as error:
                print(type(error).__name__, error)
        print(time.monotonic() - begin < 5)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    *said, soon = done.stdout.splitlines()
    assert len(said) == 2 and soon == "True"
    assert all(s.startswith("DeviceError --device cuda: no node of this Ray has a") for s in said)


@contextlib.contextmanager
def listening(answer: bytes | None):
    """The address of a server that sends ``answer`` to whoever speaks, or says nothing at all."""

    class Answering(socketserver.BaseRequestHandler):
        def handle(self):
            while self.request.recv(1024):
                if answer is not None:
                    return self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def no_cluster(address: str) -> subprocess.CompletedProcess:
    script = f"""
        import time
        from pipeline import graph
        graph.KNOCK_S = 1.0
        begin = time.monotonic()
        try:
            graph.Graph.start(address={address!r})
        except graph.PipelineError as error:
            print(error)
        print(time.monotonic() - begin < 3)
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_an_address_without_a_cluster_says_what_to_do(address):
    done = no_cluster(address)
    assert f"no Ray cluster at {address!r}" in done.stdout and "ray start --head" in done.stdout


@pytest.mark.parametrize("answer", [None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH"])
def test_an_address_where_another_server_listens_says_so_at_once(answer):
    with listening(answer) as address:
        done = no_cluster(address)
    said, soon = done.stdout.splitlines()
    assert said.startswith(f"no Ray cluster at {address!r} (what listens there does not answer")
    assert "ray start --head" in said and soon == "True" and done.stderr == ""


def test_a_driver_joins_a_cluster_at_its_address():
    address = ray.get_runtime_context().gcs_address
    script = f"""
        import ray
        from pipeline.graph import connect
        print(connect({address!r}, 1), ray.get_runtime_context().gcs_address)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.stdout, done.stderr) == (f"True {address}\n", "")


def test_a_cluster_behind_tls_is_not_asked_in_plain_text(monkeypatch):
    with listening(b"") as address:
        with pytest.raises(ConnectionError):
            _knock(address)
        monkeypatch.setenv("RAY_USE_TLS", "1")
        _knock(address)
