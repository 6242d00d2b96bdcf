"""Stages that want all cores work one at a time, and whoever dies gives its turn back."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dragoman.pipeline.actors import ActorDied, ActorGroup
from dragoman.pipeline.ray_actors import RayHost
from dragoman.pipeline.recipes import Recipe, recipes
from dragoman.pipeline.runner import Packet
from dragoman.pipeline.session import run
from dragoman.pipeline.turns import Turns, needed, spared
from dragoman.spec import ModelSpec
from dragoman.stages.messages import Chunk, SessionOptions
from tests.pipeline.chains import on_ray
from tests.pipeline.fake_stages import (
    POISON,
    CountingCaptions,
    CountingSegments,
    CountingTokens,
    Making,
    tone,
)
from tests.waiting import PATIENCE_S, eventually

NEVER_S = 0.3


def hold(shared: Turns, there) -> None:
    """Takes a turn and keeps it."""
    with shared:
        there.set()
        time.sleep(10 * PATIENCE_S)


@pytest.fixture
def shared() -> Iterator[Turns]:
    made = Turns()
    yield made
    made.close()


def test_one_at_a_time_and_a_killed_process_is_out(shared):
    spawn = multiprocessing.get_context("spawn")
    there, entered = spawn.Event(), threading.Event()
    holder = spawn.Process(target=hold, args=(shared, there), daemon=True)
    holder.start()
    assert there.wait(PATIENCE_S)

    def enter() -> None:
        with shared:
            entered.set()

    threading.Thread(target=enter, daemon=True).start()
    assert not entered.wait(NEVER_S)
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    assert entered.wait(PATIENCE_S)
    holder.join()


def test_only_threads_that_do_not_fit_take_turns(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})

    def wanted(*threads: int, gpus: float = 0.0) -> bool:
        return needed([Recipe("a stage", Making(None), n, gpus) for n in threads])

    assert wanted(0, 2, 2) and wanted(0, 1, 2)
    assert not wanted(0, 1, 1) and not wanted(0, 0, 2)
    assert not wanted(1, 1, 1), "threads that wait for nobody"
    assert not wanted(0, 2, 2, gpus=0.4)


def test_a_small_model_takes_no_turns_and_a_large_one_does(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with (tmp_path / "model.safetensors").open("wb") as weights:
        weights.truncate(2**31)  # as large as that, without taking room
    for cores in (1, 2, 4, 8):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert not needed(recipes(ModelSpec("nano")))
        assert needed(recipes(ModelSpec(str(tmp_path)))) == (cores in (2, 4))


def test_where_no_turns_can_be_taken_one_stage_has_all_cores():
    stages = [Recipe(str(n), Making(None), threads) for n, threads in enumerate((0, 2, 2, 1))]
    assert [stage.threads for stage in spared(stages)] == [0, 1, 2, 1]


@dataclass
class Noting:
    """Notes in ``file`` when a stage works; it sleeps a while, at a poisoned sample for long."""

    stage: CountingTokens | CountingCaptions
    file: Path

    def init_state(self, options):
        return self.stage.init_state(options)

    def step(self, item, state):
        begun = time.monotonic()
        if POISON in getattr(item, "samples", ()):
            self.file.with_suffix(".pid").write_text(str(os.getpid()))
            time.sleep(10 * PATIENCE_S)
        time.sleep(0.01)
        out = self.stage.step(item, state)
        with self.file.open("a") as file:
            file.write(f"{begun} {time.monotonic()}\n")
        return out

    def flush(self, state):
        return self.stage.flush(state)


def heavy(folder: Path) -> list[Recipe]:
    threads = len(os.sched_getaffinity(0))
    encode = Noting(CountingTokens(), folder / "encode")
    translate = Noting(CountingCaptions(), folder / "translate")
    return [
        Recipe("segment", Making(CountingSegments())),
        Recipe("encode", Making(encode), max(2, threads)),
        Recipe("translate", Making(translate), max(2, threads)),
    ]


def spans(path: Path) -> list[tuple[float, ...]]:
    return [tuple(map(float, line.split())) for line in path.read_text().splitlines()]


def overlaps(folder: Path) -> int:
    both = [spans(folder / name) for name in ("encode", "translate")]
    return sum(a < d and c < b for a, b in both[0] for c, d in both[1])


def test_large_stages_of_a_graph_never_work_at_the_same_time(tmp_path):
    """And they would without turns; the captions are the same."""
    heard = []
    for name, light in (("turns", False), ("none", True)):
        folder = tmp_path / name
        folder.mkdir()
        stages = [replace(s, threads=0) for s in heavy(folder)] if light else heavy(folder)
        graph = on_ray(stages)
        try:
            heard.append(list(run(graph, [tone(40)], pace="fast", session_name="a")))
        finally:
            graph.stop()
        assert len(spans(folder / "encode")) > 40 and len(spans(folder / "translate")) > 40
    assert overlaps(tmp_path / "turns") == 0 and overlaps(tmp_path / "none") > 0
    assert heard[0] == heard[1] and len(heard[0]) == 40


def test_a_killed_actor_gives_its_turn_back(tmp_path):
    host = RayHost()
    actors = ActorGroup(host)
    try:
        for stage in host.fit(heavy(tmp_path)):
            actors.add([stage])
        actors.load()
        bad = [Chunk(0, tone(1, POISON))]
        lost = actors.scheduler.send(Packet("a", 0, bad, options=SessionOptions()), (0, 1))
        pid = tmp_path / "encode.pid"
        eventually(lambda: pid.exists() and pid.read_text())
        light, opened = (
            actors.scheduler.send(Packet("b", 0, [], options=SessionOptions()), (actor,))
            for actor in (0, 2)
        )
        assert light.result(PATIENCE_S) == [], "a stage without threads waits for nobody"
        time.sleep(NEVER_S)
        assert not opened.done(), "the encoder has its turn"
        os.kill(int(pid.read_text()), signal.SIGKILL)
        assert opened.result(PATIENCE_S) == []
        with pytest.raises(ActorDied, match="process of a stage ended"):
            lost.result(PATIENCE_S)
    finally:
        actors.stop()
