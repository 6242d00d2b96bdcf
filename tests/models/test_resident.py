"""What a process gives back to the system, and that nothing is lost by it."""

import ctypes
import mmap
import sys
from pathlib import Path

import pytest
import torch

from dragoman import system
from dragoman.models import resident

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what is mapped")
PAGES = 64
BYTES = PAGES * mmap.PAGESIZE


def resident_kb(file: str) -> int:
    """Of ``file``, as the kernel counts it for this process."""
    total, inside = 0, False
    for line in system.mappings().splitlines():
        if header := resident.HEADER.match(line):
            inside = header[4] == file
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(bytes(range(256)) * (BYTES // 256))
    return path


def mapped_weight(file: Path) -> torch.Tensor:
    """As safetensors maps it: private, and open for writing."""
    return torch.from_file(str(file), shared=False, size=BYTES, dtype=torch.uint8)


@linux
def test_forgotten_weights_leave_memory_and_come_back_from_the_file(file):
    weight = mapped_weight(file)
    before = weight.clone()
    assert resident_kb(str(file)) == BYTES // 1024
    resident.forget([weight])
    assert resident_kb(str(file)) == 0
    assert weight.equal(before)
    assert resident_kb(str(file)) == BYTES // 1024


@linux
def test_only_whole_pages_of_a_weight_go(file):
    weight = mapped_weight(file)
    weight.sum()
    resident.forget([weight[1 : 3 * mmap.PAGESIZE]])
    assert resident_kb(str(file)) == (BYTES - 2 * mmap.PAGESIZE) // 1024


@linux
def test_a_weight_that_was_changed_stays(file):
    weight = mapped_weight(file)
    weight[5] = 77
    resident.forget([weight])
    assert weight[5] == 77


@linux
def test_a_weight_of_no_file_stays():
    weight = torch.arange(BYTES, dtype=torch.int32)
    resident.forget([weight])
    assert weight.equal(torch.arange(BYTES, dtype=torch.int32))


@linux
def test_free_memory_of_the_heap_goes_back():
    def anonymous_kb() -> int:
        (line,) = (
            line
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("RssAnon:")
        )
        return int(line.split()[1])

    pieces = [torch.ones(2**12) for _ in range(4096)]  # 64 MB, each too small for a mapping
    holes, kept = pieces[::2], pieces[1::2]
    del pieces
    holes.clear()
    before = anonymous_kb()
    resident.trim()
    assert anonymous_kb() < before - 16 * 1024
    assert all(piece.sum() == 2**12 for piece in kept)


@linux
def test_code_that_is_not_used_leaves_memory():
    libraries = {m.file for m in resident.mapped() if "libtorch_cpu" in m.file}
    (library,) = libraries
    for mapping in resident.mapped():
        if mapping.file == library and mapping.clean and "w" not in mapping.mode:
            ctypes.string_at(mapping.start, mapping.stop - mapping.start)
    before = resident_kb(library)
    resident.give_back()
    assert resident_kb(library) < before / 2
    assert torch.ones(64, 64).matmul(torch.ones(64, 64)).sum() == 64**3


@linux
def test_pages_that_a_program_wrote_are_told_from_those_of_its_file(file):
    weight = mapped_weight(file)
    weight[0] = 9
    (mapping,) = (m for m in resident.mapped() if m.file == str(file))
    assert mapping.written == mmap.PAGESIZE and not mapping.clean


def test_elsewhere_nothing_happens(monkeypatch):
    monkeypatch.setattr(system.sys, "platform", "other")
    weight = torch.ones(BYTES)
    resident.give_back()
    resident.forget([weight])
    assert weight.sum() == BYTES
