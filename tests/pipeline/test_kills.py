"""Sessions whose processes are killed, on a real Ray: files are what they are without a kill."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.kills import compare
from dragoman.demos.browser_runs import PageSession
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.ray_actors import RayHost
from dragoman.pipeline.recipes import Recipe
from dragoman.pipeline.runner import ActorDied
from dragoman.pipeline.saving import Saving
from dragoman.pipeline.session import Session
from dragoman.stages.messages import CHUNK_SAMPLES, Caption, SessionOptions, SoftTokens
from dragoman.stages.segment import SegmentStage
from tests.pipeline.chains import on_ray
from tests.pipeline.fake_stages import CountingCaptions, Making, bare, bursts, fakes
from tests.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.usefixtures("with_ray")
SOUND = bursts()  # silence until 1 s, a segment until 3 s, silence until 4 s, a segment until 5 s
ENCODE, TRANSLATE = 0, 1
MOMENTS = {"before speech": 0.5, "before a final": 1.9, "in a pause": 3.8, "in a segment": 4.6}
Kill = Callable[[int], None]


@pytest.fixture(scope="module")
def graph() -> Iterator[Chain]:
    made = on_ray((Recipe("segment", Making(SegmentStage())), *fakes()[1:]))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def undisturbed(graph, tmp_path_factory) -> tuple[list[Caption], dict[str, bytes]]:
    return heard(graph, spoken({}, lambda stage: None), tmp_path_factory.mktemp("undisturbed"))


def spoken(kills: dict[float, int], kill: Kill) -> Iterator[np.ndarray]:
    """The sound, a little slower than it is worked on; stages are killed at seconds of it."""
    left = dict(kills)
    for start in range(0, len(SOUND), CHUNK_SAMPLES):
        for at in [at for at in left if start >= 16_000 * at]:
            kill(left.pop(at))
        time.sleep(0.02)
        yield SOUND[start : start + CHUNK_SAMPLES]


def killing(graph: Chain) -> Kill:
    """Kills the process of a stage; waits for one that takes the place of another."""

    def kill(stage: int) -> None:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                return os.kill(graph.pids()[stage], signal.SIGKILL)
            except ActorDied:
                time.sleep(0.05)
        raise AssertionError("a process was not replaced")

    return kill


def heard(
    graph: Chain,
    pieces: Iterator[np.ndarray],
    folder: Path,
    after_final: Callable[[], None] = lambda: None,
) -> tuple[list[Caption], dict[str, bytes]]:
    """The captions of a session, and the files that it leaves."""
    saving = Saving(folder, "talk", "talk.wav", "nano", SessionOptions())
    captions: list[Caption] = []
    for caption in Session(graph, pieces, pace="fast", warn=lambda message: None):
        captions.append(caption)
        if caption.kind == "final":
            saving.add(caption, len(SOUND) / 16_000)
            after_final()
    saving.end([])
    return bare(captions), {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("stage", [ENCODE, TRANSLATE])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_changes_neither_captions_nor_files(graph, undisturbed, moment, stage, tmp_path):
    pieces = spoken({MOMENTS[moment]: stage}, killing(graph))
    assert heard(graph, pieces, tmp_path) == undisturbed
    assert len(undisturbed[1]) == 5 and graph.sessions() == []


def test_both_processes_killed_one_after_the_other_and_at_once(graph, undisturbed, tmp_path):
    kills = {1.5: ENCODE, 2.5: TRANSLATE, 4.5: ENCODE, 4.51: TRANSLATE}
    assert heard(graph, spoken(kills, killing(graph)), tmp_path) == undisturbed


def test_a_kill_just_after_a_final(graph, undisturbed, tmp_path):
    kill = killing(graph)
    pieces = spoken({}, kill)
    assert heard(graph, pieces, tmp_path, lambda: kill(TRANSLATE)) == undisturbed


def test_the_page_notices_nothing(graph, undisturbed):
    pieces = spoken({1.9: TRANSLATE, 4.6: ENCODE}, killing(graph))
    page = PageSession(graph, pieces, SessionOptions(), "live", threading.Semaphore(1))
    eventually(lambda: page.done)
    finals = [(c.start, c.end, c.transcript) for c in undisturbed[0] if c.kind == "final"]
    assert page.error == "" and len(finals) == 2
    settled, _ = page.captions()
    assert [(c.start, c.end, c.transcript) for c in settled] == finals
    assert page.warned.startswith("a worker process ended")


class Telling(CountingCaptions):
    """Captions say whether their process had imported what models need before it got its stage."""

    def step(self, item: SoftTokens, state):
        made, state = super().step(item, state)
        warm = "dragoman.stages.translate" in sys.modules
        return [replace(caption, size=str(warm)) for caption in made], state


def test_a_spare_process_takes_the_place_of_one_that_has_models_to_load():
    segment, encode, _ = fakes()
    host = RayHost()
    graph = Chain.start(host, (segment, encode, Recipe("translate", Making(Telling()), threads=1)))
    kill, warm = killing(graph), []
    for _ in range(2):  # the second time there is another
        graph.prepare()
        assert host.warm is not None
        host.warm.result(PATIENCE_S)
        kill(TRANSLATE)
        warm += [c.size for c in Session(graph, [SOUND], pace="fast") if c.kind == "final"]
    graph.stop()
    assert len(warm) > 2 and set(warm) == {"True"}


class SlowlyDone(Future):
    """Whoever asks learns of it late."""

    def done(self) -> bool:
        time.sleep(0.3)
        return super().done()


def test_of_two_processes_that_end_at_once_one_has_the_spare():
    stages = [Recipe("translate", Making(Telling()), threads=1)]
    host = RayHost()
    host.fit(stages)
    host.prepare()
    assert host.warm is not None
    warm, host.warm = host.warm, SlowlyDone()
    host.warm.set_result(warm.result(PATIENCE_S))
    with ThreadPoolExecutor() as threads:
        made = [*threads.map(lambda _: host.spawn(stages, successor=True), range(2))]
    host.place(made)
    assert len({actor.call("pid").result() for actor in made}) == 2
    for actor in made:
        actor.kill()
    host.close()


@pytest.mark.slow
def test_the_bundled_model_says_the_same_and_leaves_the_same_files():
    told = compare("nano", minutes=0.5, kills=2, seed=3)
    assert told["kills"] == 2 and told["identical"], told
