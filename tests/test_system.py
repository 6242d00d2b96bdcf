"""What only Linux has is optional: everything works, if with less comfort, where it is hidden."""

import mmap
import os
import subprocess
import sys

import pytest

from dragoman import system
from dragoman.models import reading, resident
from dragoman.pipeline.journal import Journal
from dragoman.pipeline.turns import Turns


@pytest.fixture
def elsewhere(monkeypatch):
    """A system without affinity, file locks, memory files, /proc and malloc_trim."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(system, "fcntl", None)
    monkeypatch.setattr(system.sys, "platform", "elsewhere")
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE")


def test_cores_are_those_that_this_process_may_use():
    script = "from dragoman import system; print(system.cores())"
    one = sorted(os.sched_getaffinity(0))[:1]
    done = subprocess.run(
        [sys.executable, "-c", script],
        preexec_fn=lambda: os.sched_setaffinity(0, one),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == "1\n", done.stderr


def test_elsewhere_all_cores_count(elsewhere):
    assert system.cores() == os.cpu_count()


def test_a_lock_keeps_others_out_until_it_is_given_back(tmp_path):
    with open(tmp_path / "file", "w") as first, open(tmp_path / "file", "w") as second:
        system.lock(first.fileno())
        with pytest.raises(BlockingIOError):
            system.lock(second.fileno(), wait=False)
        system.unlock(first.fileno())
        system.lock(second.fileno(), wait=False)


def test_elsewhere_a_folder_is_written_to_without_a_lock(elsewhere, tmp_path):
    journals = [Journal(tmp_path, "a"), Journal(tmp_path, "b")]
    for journal in journals:
        journal.close()


@pytest.mark.parametrize("hidden", [False, True])
def test_turns_can_be_taken(hidden, request):
    if hidden:
        request.getfixturevalue("elsewhere")
    turns = Turns()
    with turns:
        pass
    turns.close()


def test_elsewhere_memory_is_left_to_the_system(elsewhere):
    assert list(resident.mapped()) == []
    resident.give_back()


def test_elsewhere_weights_are_read_to_bring_them_into_memory(elsewhere, tmp_path):
    (tmp_path / "weights").write_bytes(bytes(5000))
    stored = reading.Stored("w", tmp_path / "weights", "U8", (4000,), 1000, 5000)
    seen = []
    reading.read_ahead([stored], lambda done, total: seen.append((done, total)), lambda: False)
    assert seen[-1] == (4000, 4000)
