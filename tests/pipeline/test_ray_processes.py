"""Ray's own processes are killed: what runs there goes on in another Ray, and nothing is lost."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dragoman.errors import PipelineError
from dragoman.pipeline import ray_folder
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.pool import Pool
from dragoman.pipeline.ray_actors import RayHost
from dragoman.pipeline.ray_folder import PREFIX, RayFolder
from dragoman.pipeline.ray_processes import OwnProcesses, connect
from dragoman.pipeline.recipes import Recipe
from dragoman.pipeline.session import Session
from dragoman.stages.messages import CHUNK_SAMPLES
from dragoman.stages.segment import SegmentStage
from tests.pipeline.batches import batch, outputs, run, sound
from tests.pipeline.fake_stages import CountingTokens, Making, bare, bursts, fakes
from tests.pipeline.media_files import ROOT
from tests.pipeline.slow_cli import Pausing
from tests.waiting import eventually

SOUND = bursts()  # silence until 1 s, a segment until 3 s, silence until 4 s, a segment until 5 s


@pytest.fixture(scope="module")
def owned() -> Iterator[OwnProcesses]:
    with contextlib.chdir(ROOT):  # where its workers find the tests
        processes = connect(None, 6)
    assert isinstance(processes, OwnProcesses)
    yield processes
    folder = folder_of(processes)
    processes.close()
    assert not folder.exists()


@pytest.fixture(scope="module")
def graph(owned) -> Iterator[Chain]:
    stages = (Recipe("segment", Making(SegmentStage())), *fakes()[1:])
    with Chain.start(RayHost(), stages) as made:
        yield made


def folder_of(owned: OwnProcesses) -> Path:
    folder = owned._folder
    assert folder is not None and folder.path.is_dir()
    return folder.path


def spoken(kill) -> Iterator[np.ndarray]:
    """The sound, a little slower than it is worked on; ``kill`` is called in a segment."""
    for start in range(0, len(SOUND), CHUNK_SAMPLES):
        if start == 12 * CHUNK_SAMPLES:
            kill()
        time.sleep(0.02)
        yield SOUND[start : start + CHUNK_SAMPLES]


def handling(number: int) -> bytes:
    """The function that handles a signal below Python, and what is masked meanwhile."""
    action = ctypes.create_string_buffer(1_024)
    assert ctypes.CDLL(None).sigaction(number, None, action) == 0
    return action.raw[:16]  # behind it the mask has bytes that nobody writes


def ignores(pid: int, number: int) -> bool:
    """Whether a process ignores a signal, by its mask in /proc."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line for line in status.splitlines() if line.startswith("SigIgn"))
    return bool(int(mask.split()[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_session_loses_nothing_and_says_so_at_once(owned, graph, name):
    said, before, folder, handled = [], owned.pids(), folder_of(owned), handling(signal.SIGTERM)

    def warn(sentence: str) -> None:
        said.append((sentence, owned.number))

    number = owned.number
    heard = Session(
        graph, spoken(lambda: os.kill(before[name], signal.SIGKILL)), pace="fast", warn=warn
    )
    killed = bare(heard)
    assert killed == bare(Session(graph, [SOUND], pace="fast"))
    assert len([c for c in killed if c.kind == "final"]) == 2
    assert said and "nothing is lost" in said[0][0]
    assert owned.number == number + 1 and not set(before.values()) & set(owned.pids().values())
    assert not folder.exists() and graph.sessions() == []
    assert handling(signal.SIGTERM) == handled
    assert all(ignores(pid, signal.SIGHUP) for pid in owned.pids().values())
    assert not ignores(os.getpid(), signal.SIGHUP)


def test_where_no_other_ray_starts_sessions_end_with_the_reason_and_the_next_one_tries_again(
    owned, graph, monkeypatch
):
    def no_room() -> None:
        raise PipelineError("Ray did not start here (no memory)")

    raylet = owned.pids()["raylet"]
    with monkeypatch.context() as patched:
        patched.setattr(owned, "_start", no_room)
        session = Session(graph, spoken(lambda: os.kill(raylet, signal.SIGKILL)), pace="fast")
        with pytest.raises(PipelineError, match="Ray did not start here"):
            list(session)
    assert owned.pids() == {}
    assert len([c for c in Session(graph, [SOUND], pace="fast") if c.kind == "final"]) == 2


@dataclass
class DyingOnce:
    """Makes a stage; the first process that does is gone."""

    mark: Path

    def __call__(self) -> CountingTokens:
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return CountingTokens()


def test_a_process_that_is_killed_while_it_loads_is_replaced(owned, tmp_path):
    segment, _, translate = fakes()
    stages = (segment, Recipe("encode", DyingOnce(tmp_path / "mark")), translate)
    with Chain.start(RayHost(), stages) as chain:
        assert (tmp_path / "mark").exists()
        assert len([*Session(chain, [SOUND], pace="fast")]) > 9


def test_a_batch_loses_nothing(owned, graph, tmp_path):
    """It shares its Ray with a graph."""
    stages = (*fakes(), Recipe("pause", Making(Pausing(0.1))))
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    for folder in (calm, killed):
        folder.mkdir()
        for name in ("a", "b"):
            sound(folder / f"{name}.wav", 20)
    workers = Pool.start(RayHost(), stages[1:], 2)
    run(batch([calm], stages=stages), workers)
    made, pids = batch([killed], stages=stages), owned.pids()
    assert not [*made.prepare()]
    for _ in made.run(workers):
        if pids == owned.pids() and made._files[0].heard > 5 * CHUNK_SAMPLES:
            os.kill(pids["raylet"], signal.SIGKILL)
            eventually(lambda: owned.pids() != pids)
    made.close()
    workers.stop()
    assert owned.pids() != pids and outputs(killed) == outputs(calm) and len(outputs(calm)) > 4
    assert graph.sessions() == []


def test_what_a_killed_process_left_is_removed_and_what_is_used_is_not(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(ray_folder, "SOCKET_BYTES", 300)
    monkeypatch.setattr(ray_folder, "FRESH_S", -1.0)
    code = f"""if True:
        from dragoman.pipeline import ray_folder
        ray_folder.SOCKET_BYTES = {ray_folder.SOCKET_BYTES}
        kept = ray_folder.RayFolder()
        input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
    ) as other:
        eventually(lambda: [*tmp_path.glob(f"{PREFIX}*/{ray_folder.LOCK}")] or other.poll())
        (theirs,) = tmp_path.iterdir()
        mine = RayFolder()
        assert {*tmp_path.iterdir()} == {theirs, mine.path}
        other.kill()
    again = RayFolder()
    assert {*tmp_path.iterdir()} == {again.path, mine.path}
    again.remove()
    mine.remove()
    assert not [*tmp_path.iterdir()]


def test_where_paths_of_sockets_would_be_too_long_another_place_is_taken(monkeypatch, tmp_path):
    deep = tmp_path / ("x" * 80)
    deep.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(deep))
    folder = RayFolder()
    assert folder.path.parent == Path("/tmp")
    folder.remove()
    monkeypatch.setattr(ray_folder, "SOCKET_BYTES", 90)
    with pytest.raises(PipelineError, match=r"do not fit below .*xxx.*may have 90.*TMPDIR"):
        RayFolder()
