"""However a batch ends, the next run makes what an undisturbed one would have made.

Each run has a process of its own, forked from this one, and no Ray.
"""

import os
import random
import resource
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from dragoman.pipeline.actors import InProcess
from dragoman.pipeline.batch_file import Advanced, Result
from dragoman.pipeline.pool import Pool
from tests.pipeline.batches import batch, outputs, run, sound
from tests.pipeline.fake_stages import fakes
from tests.pipeline.mortal import Mortal

KILLS = 20
FILES = {"a": 23, "b": 7, "c": 12}  # chunks of sound


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for name, chunks in FILES.items():
        sound(folder / f"{name}.wav", chunks)
    return folder


@pytest.fixture(scope="module")
def undisturbed(media, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed")
    assert all(result.status == "done" for result in translated(media, out).values())
    return outputs(out)


def translated(media: Path, out: Path, host: InProcess | None = None) -> dict[str, Result]:
    pool = Pool.start(host or InProcess(), fakes()[1:], 2, batch_size=2)
    try:
        return run(batch([media], out), pool)
    finally:
        pool.stop()


def in_child(work: Callable[[], Any]) -> int:
    """How the process ended that did ``work``: its exit code, or minus the signal."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def calls_of(work: Callable[[], Any], most: int | None = None) -> Iterator[int]:
    """Does ``work``; gives how many functions were called, and kills the process at ``most``."""
    calls = count(1)

    def called(frame: FrameType, event: str, _: Any) -> None:
        if event in ("call", "c_call") and next(calls) == most:
            os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(called)
    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    yield next(calls)


@pytest.fixture(scope="module")
def length(media, tmp_path_factory) -> int:
    """How many functions a run calls."""
    out = tmp_path_factory.mktemp("counted")
    return next(calls_of(lambda: translated(media, out)))


@pytest.mark.parametrize("moment", range(KILLS))
def test_a_run_that_is_killed_at_any_moment_is_made_good(
    media, undisturbed, length, tmp_path, moment
):
    rng = random.Random(moment)
    most = round(length * (moment + rng.random()) / KILLS)
    killed = in_child(lambda: next(calls_of(lambda: translated(media, tmp_path), most)))
    assert killed in (-signal.SIGKILL, 0), "threads may make a run a little shorter"
    results = translated(media, tmp_path)
    assert {result.status for result in results.values()} <= {"done", "skipped"}
    assert outputs(tmp_path) == undisturbed


@pytest.mark.parametrize("first", range(4))
def test_workers_that_die_change_nothing(media, undisturbed, tmp_path, first):
    """Every fourth run ends its process; three in a row of a segment would end the file."""
    host = Mortal()
    host.begin(lambda stage, number: number % 4 == first)
    results = translated(media, tmp_path, host)
    assert len(host.ended) >= 2
    assert {result.status for result in results.values()} == {"done"}
    assert outputs(tmp_path) == undisturbed


@pytest.mark.parametrize("most", [100, 2_000, 4_500])
def test_a_full_disk_is_told_and_made_good(media, undisturbed, tmp_path, most):
    """At the first line of the journal, in the middle of it, and in an output."""

    def full() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        results = translated(media, tmp_path)
        assert any(result.status == "failed" for result in results.values())
        for result in results.values():
            assert result.status == "done" or "cannot be written to (File too large)" in (
                result.reason
            )

    assert in_child(full) == 0
    assert {r.status for r in translated(media, tmp_path).values()} <= {"done", "skipped"}
    assert outputs(tmp_path) == undisturbed


def test_an_output_folder_that_goes_is_told_and_made_good(media, undisturbed, tmp_path):
    out, results = tmp_path / "out", []
    made, pool = batch([media], out), Pool.start(InProcess(), fakes()[1:], 1)
    results += made.prepare()
    for event in made.run(pool):
        if isinstance(event, Advanced) and event.until_s > 1:
            shutil.rmtree(out, ignore_errors=True)
        if isinstance(event, Result):
            results.append(event)
    made.close()
    pool.stop()
    assert {result.status for result in results} == {"failed"}
    assert all(f"{out} cannot be written to" in result.reason for result in results)
    assert {result.status for result in translated(media, out).values()} == {"done"}
    assert outputs(out) == undisturbed
