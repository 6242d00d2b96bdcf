"""Machine code is made once for a source, and anew wherever a file is not what was written."""

import os
import time

import pytest

from dragoman.kernels import objects


class Making:
    """Counts how often it is asked."""

    def __init__(self, code: bytes = b"code") -> None:
        self.code, self.times = code, 0

    def __call__(self) -> bytes:
        self.times += 1
        return self.code


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tmp_path in objects.folder().parents
    return objects.folder()


def test_code_is_made_once(folder):
    make = Making()
    assert [objects.kept("a", make) for _ in range(3)] == [b"code"] * 3
    assert make.times == 1
    assert [path.suffix for path in folder.iterdir()] == [".o"]


def test_another_source_is_other_code(folder):
    assert objects.kept("a", Making(b"one")) == b"one"
    assert objects.kept("b", Making(b"two")) == b"two"
    assert objects.kept("a", Making(b"three")) == b"one"


@pytest.mark.parametrize("damage", [b"", b"short", b"0" * 40])
def test_a_damaged_file_is_made_anew(folder, damage):
    objects.kept("a", Making())
    (path,) = folder.iterdir()
    path.write_bytes(damage)
    assert objects.kept("a", make := Making()) == b"code" and make.times == 1
    assert objects.kept("a", make) == b"code" and make.times == 1


def aged(path, days: float):
    then = time.time() - days * objects.DAY_S
    os.utime(path, (then, then))
    return path


def test_what_nobody_reads_any_more_goes_with_the_next_new_code(folder):
    folder.mkdir(parents=True)
    for name, days in (("old.o", 61), ("new.o", 59), ("dead.part", 2), ("alive.part", 0)):
        (folder / name).write_bytes(b"x")
        aged(folder / name, days)
    objects.kept("a", Making())
    names = {path.name for path in folder.iterdir()}
    assert len(names) == 3 and {"new.o", "alive.part"} < names


def test_code_that_is_read_stays(folder):
    objects.kept("a", Making())
    (path,) = folder.iterdir()
    aged(path, 50)
    objects.kept("a", Making())
    assert time.time() - path.stat().st_mtime < objects.DAY_S


def test_the_oldest_go_where_there_is_too_much(folder, monkeypatch):
    monkeypatch.setattr(objects, "KEEP_BYTES", 25)
    folder.mkdir(parents=True)
    for days in (3, 1, 2):
        (folder / f"{days}.o").write_bytes(b"0123456789")
        aged(folder / f"{days}.o", days)
    objects.prune(folder)
    assert {path.name for path in folder.iterdir()} == {"1.o", "2.o"}


def test_code_is_made_where_nothing_can_be_kept(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    make = Making()
    assert [objects.kept("a", make) for _ in range(2)] == [b"code"] * 2
    assert make.times == 2


def test_kept_code_computes_what_new_code_does(folder):
    compiler = pytest.importorskip("dragoman.kernels.compiler")

    def write(b):
        b.write(b.times(b.given["x"], 3), b.pointer("y"))

    import torch

    y = torch.zeros(2, dtype=torch.int64)
    for i in range(2):
        program = compiler.Kernel(("x", "y"), write, compiler.lanes())
        program.run(1, 14, y[i:].data_ptr())
    assert y.tolist() == [42, 42]
    assert len(list(folder.iterdir())) == 1
