"""On a disk that is too full, files that can be made again give way, and nothing else does."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gguf
from benchmarks.checkpoint import SIZES, ensure
from benchmarks.context import Bench
from benchmarks.machine import Machine
from benchmarks.room import SPARE_BYTES, MakeRoom, Room, whole
from benchmarks.rows import Unavailable
from tests.benchmarks.conftest import BLOCK
from tests.waiting import PATIENCE_S

FORMS = ("bf16", "bf12", "int8", "int4")


class Disk:
    """A folder on a disk for so many bytes and those that a room spares; it lists what went."""

    def __init__(self, root: Path, holds: int) -> None:
        self.root, self.holds, self.said = root, holds, []
        self.room = Room(root, ("E2B", "E4B"), FORMS, self.free, self.said.append)

    def free(self, folder: Path) -> int:
        assert folder == self.root
        files = (path for path in self.root.rglob("*") if path.is_file())
        return SPARE_BYTES + self.holds - sum(path.stat().st_size for path in files)

    def write(self, *names: str) -> None:
        """Files of 10 bytes."""
        for name in names:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_bytes(b"0123456789")

    @property
    def left(self) -> set[str]:
        return {path.name for path in self.root.iterdir()}


def test_what_is_needed_last_goes_first_and_no_more_than_must(tmp_path):
    disk = Disk(tmp_path, 65)
    disk.write("E2B/a", "E2B-bf12/a", "E2B-int8/a", "E2B-int4/a", "E4B/a", "E2B-bf16.gguf")
    disk.room.make(15, "E2B", [tmp_path / "E2B"])
    assert disk.left == {"E2B", "E2B-bf12", "E2B-int8", "E2B-int4", "E4B"}
    disk.room.make(25, "E2B", [tmp_path / "E2B"])
    assert disk.left == {"E2B", "E2B-bf12", "E2B-int8", "E2B-int4"}
    disk.room.make(45, "E2B", [tmp_path / "E2B", tmp_path / "E2B-int8"])
    assert disk.left == {"E2B", "E2B-int8"}
    assert [line.split(",")[0].rsplit("/", 1)[1] for line in disk.said] == [
        "E2B-bf16.gguf", "E4B", "E2B-int4", "E2B-bf12",
    ]  # fmt: skip
    assert "made again when it is needed" in disk.said[0]


def test_another_size_takes_the_place_of_the_last_one(tmp_path):
    disk = Disk(tmp_path, 40)
    disk.write("E2B/a", "E2B-bf12/a", "E2B-int8/a")
    disk.room.make(20, "E4B", [tmp_path / "E4B"])
    assert disk.left == {"E2B", "E2B-bf12"}
    disk.room.make(40, "E4B", [tmp_path / "E4B"])
    assert disk.left == set()


def test_with_room_enough_everything_stays(tmp_path):
    disk = Disk(tmp_path, 20)
    disk.write("E2B-int8/a")
    disk.room.make(10, "E2B")
    assert disk.left == {"E2B-int8"} and not disk.said


def test_nothing_goes_where_all_would_not_do(tmp_path):
    disk = Disk(tmp_path, 30)
    disk.write("E2B/a", "E2B-int8/a")
    with pytest.raises(Unavailable, match=r"needs 0\.5 GB of disk: .* 0\.5 GB left, and 0\.0 GB"):
        disk.room.make(21, "E2B", [tmp_path / "E2B"])
    assert disk.left == {"E2B", "E2B-int8"}


GB = {"E2B": 10.9, "E2B-bf12": 9.4, "E2B-int8": 8.2, "E2B-int4": 7.1, "E2B-bf16.gguf": 8.9,
      "E2B-int8.gguf": 4.8, "E2B-int4.gguf": 3.2, "E4B": 15.7}  # fmt: skip


def test_a_whole_run_fits_42_gb_again_and_again(tmp_path):
    """Files of true size, as holes, in the order in which measurements want them."""
    disk = Disk(tmp_path, 42 * 10**9 - SPARE_BYTES)

    def want(name: str, *kept: str) -> None:
        size, needed = name[:3], int(1e9 * GB[name])
        if (tmp_path / name).exists():
            return
        disk.room.make(needed, size, [tmp_path / other for other in kept])
        with (tmp_path / name).open("wb") as file:
            file.truncate(needed)
        assert disk.free(tmp_path) >= SPARE_BYTES

    for _ in range(3):
        want("E2B")
        for form in FORMS[1:]:
            want(f"E2B-{form}", "E2B")
        for form in FORMS:
            folder = "E2B" if form == "bf16" else f"E2B-{form}"
            want(folder, "E2B")
            want(f"E2B-{gguf.NEAREST[form]}.gguf", "E2B", folder)
            assert {"E2B", folder, f"E2B-{gguf.NEAREST[form]}.gguf"} <= disk.left
        want("E4B")


def test_only_what_a_run_writes_goes(tmp_path):
    disk = Disk(tmp_path, 200)
    mine = {"notes.txt", "E2B-mine", "E2B.gguf", ".E2B-int8", "linked", "E2B-int4"}
    disk.write("notes.txt", "E2B-mine/a", "E2B.gguf", ".E2B-int8/a", "linked/a")
    (tmp_path / "E2B-int4").symlink_to(tmp_path / "linked")
    disk.write(".E2B-int8.abcd1234/a", "E2B-bf16.gguf.partial", "E2B-int8/a")
    disk.room.make(150, "E2B")
    assert disk.left == mine


def test_halves_of_a_killed_run_go_first(tmp_path):
    disk = Disk(tmp_path, 40)
    disk.write("E2B-int8/a", "E2B-bf16.gguf", ".E2B-int4.abcd1234/a", "E2B-int8.gguf.partial")
    disk.room.make(20, "E2B")
    assert disk.left == {"E2B-int8", "E2B-bf16.gguf"}


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file.json"
    with whole(path) as half:
        half.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    with pytest.raises(KeyboardInterrupt), whole(path) as half:
        half.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]


ENDED = """
import os, signal, sys
from pathlib import Path
from benchmarks.__main__ import clean_up_when_ended
from benchmarks.room import whole

clean_up_when_ended()
with whole(Path(sys.argv[1])) as half:
    half.write_text("half")
    os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_run_that_is_ended_leaves_no_half_of_a_file(tmp_path):
    command = [sys.executable, "-c", ENDED, str(tmp_path / "file.json")]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], timeout=PATIENCE_S)
    assert done.returncode == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_no_half_of_a_file(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(gguf, "_write_data", full)
    with pytest.raises(OSError, match="No space left"):
        gguf.ensure(SIZES["tiny"], "bf16", tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())


def bench_on(disk: Disk, machine: Machine, **folders: Path) -> Bench:
    return Bench(machine, small=True, folders=folders, room=disk.room)


def test_measurements_make_room_and_let_go_of_models(tmp_path, machine):
    """A folder for int8, in place of a GGUF file; the checkpoint that it is made of stays."""
    folder = ensure(SIZES["tiny"], tmp_path / "E2B", BLOCK)
    disk = Disk(tmp_path, 10**9)
    disk.write("E2B-bf16.gguf", "E4B/a")
    bench = bench_on(disk, machine, E2B=folder)
    model = bench.model("E2B")
    assert bench.model("E2B") is model
    held = disk.holds - disk.free(tmp_path) + SPARE_BYTES
    disk.holds = held + 10**6
    with pytest.raises(Unavailable, match="GB of disk"):
        bench.folder("E2B", "int8")
    assert disk.left == {"E2B", "E2B-bf16.gguf", "E4B"}
    (tmp_path / "E2B-bf16.gguf").write_bytes(bytes(2 * 10**7))
    disk.holds = held + 2 * 10**7
    assert bench.folder("E2B", "int8") == tmp_path / "E2B-int8"
    assert disk.left == {"E2B", "E2B-int8", "E4B"}
    assert bench.model("E2B") is not model


def test_a_folder_of_another_scheme_is_written_anew(tmp_path, machine):
    folder = ensure(SIZES["tiny"], tmp_path / "E2B", BLOCK)
    bench = bench_on(Disk(tmp_path, 10**9), machine, E2B=folder)
    config = bench.folder("E2B", "int8") / "config.json"
    said, made = config.read_text(), config.stat().st_ino
    assert bench.folder("E2B", "int8") / "config.json" == config
    assert config.stat().st_ino == made
    config.write_text(said.replace('"bf12"', '"int8"'))
    bench.folder("E2B", "int8")
    assert config.read_text() == said


def test_forms_that_lose_nothing_share_a_file_of_llama_cpp(tmp_path, machine):
    folder = ensure(SIZES["tiny"], tmp_path / "E2B", BLOCK)
    disk = Disk(tmp_path, 10**9)
    disk.write("E2B-bf16.gguf")
    bench = bench_on(disk, machine, E2B=folder)
    assert bench.gguf("E2B", "bf16") == bench.gguf("E2B", "bf12") == tmp_path / "E2B-bf16.gguf"


def test_a_form_keeps_its_folder_while_its_gguf_file_is_written(tmp_path, machine, monkeypatch):
    def made(size: object, kind: str, path: Path, make_room: MakeRoom) -> Path:
        make_room(20)
        return path

    monkeypatch.setattr(gguf, "ensure", made)
    folder = ensure(SIZES["tiny"], tmp_path / "E2B", BLOCK)
    disk = Disk(tmp_path, 10**9)
    bench = bench_on(disk, machine, E2B=folder)
    bench.folder("E2B", "int8")
    disk.write("E2B-bf12/a", "E2B-int4/a")
    disk.holds -= disk.free(tmp_path) - SPARE_BYTES
    bench.gguf("E2B", "int8")
    assert disk.left == {"E2B", "E2B-int8"}
    disk.holds -= 20
    with pytest.raises(Unavailable):
        bench.gguf("E2B", "int8")
    assert disk.left == {"E2B", "E2B-int8"}
