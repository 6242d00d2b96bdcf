"""A tiny checkpoint of the benchmarks' own making, and a machine of known limits."""

from pathlib import Path

import pytest

from benchmarks.checkpoint import SIZES, ensure
from benchmarks.context import Bench
from benchmarks.machine import Machine
from benchmarks.ours import FOLDERS
from benchmarks.room import Room

BLOCK = 65_521


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    return ensure(SIZES["tiny"], tmp_path_factory.mktemp("random") / "tiny", BLOCK, 2**20)


@pytest.fixture(scope="session")
def machine() -> Machine:
    """Reads 10 GB/s, computes 100 GFLOP/s."""
    return Machine("cpu", "a machine", 2, 8 * 10**9, 1e10, 1e11)


@pytest.fixture(scope="session")
def bench(folder: Path, machine: Machine) -> Bench:
    """Every size is the tiny one, speech is the bundled recording, and the disk is never full."""
    folders = {"E2B": folder, "E4B": folder}
    room = Room(folder.parent, tuple(folders), FOLDERS, free=lambda _: 10**12)
    return Bench(machine, small=True, folders=folders, nano=str(folder), corpus=folder, room=room)
