"""What every measurement is given: the machine, the checkpoints, how thorough to be.

Models are opened when the first measurement wants them and kept for the next that wants the same;
only one true-size checkpoint is open at a time. Unusual: our model and the peer's both map the same
files, so the two together hold the weights once, and each has them in the same form.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import checkpoint as random_checkpoint
from benchmarks import gguf, ours
from benchmarks.machine import Beside, Machine, forget_files
from benchmarks.peer import Peer
from benchmarks.room import MakeRoom, Room
from benchmarks.rows import Unavailable
from dragoman.decoder import LanguageModel
from dragoman.errors import CheckpointError
from dragoman.models import reading
from dragoman.models.checkpoint import Checkpoint

NEEDED_BYTES = {"E2B": 10e9, "E4B": 14e9}  # weights without the PLE table, and room to work


def _room() -> Room:
    return Room(random_checkpoint.FOLDERS, tuple(NEEDED_BYTES), ours.FOLDERS)


@dataclass
class Bench:
    """Settings of a run. ``folders`` may name checkpoints by size; a missing one is written.

    ``small`` is for tests: fewer tokens and shorter sounds, everything else the same.
    """

    machine: Machine
    quick: bool = False
    small: bool = False
    folders: dict[str, Path] = field(default_factory=dict)
    nano: str = "nano"
    corpus: Path = Path("build/bench")
    room: Room = field(default_factory=_room)
    _size: str = ""
    _kept: dict[str, tuple[str, Any]] = field(default_factory=dict)
    _brought: set[Path] = field(default_factory=set)

    @property
    def device(self) -> str:
        return self.machine.device

    @property
    def rounds(self) -> int:
        return 1 if self.small else 3 if self.quick else 7

    def beside(self, products: bool = False) -> Beside:
        """To measure the machine between the rounds of a row."""
        return Beside(self.device, 0.1 if self.small else 1.0, products)

    def folder(self, size: str, form: str = "bf16") -> Path:
        """The checkpoint of ``size`` in ``form`` (see `benchmarks.ours.FOLDERS`).

        Raises Unavailable without room in memory or on disk.
        """
        try:
            original = self._original(size)
            return ours.quantized(original, form, self._make_room(size, original))
        except (CheckpointError, OSError) as error:
            raise Unavailable(str(error)) from error

    def gguf(self, size: str, form: str) -> Path:
        """What llama.cpp compares with ``form``; the folder of the form stays where it is.

        Raises Unavailable without room on disk.
        """
        kind = gguf.NEAREST[form]
        path = self.room.root / f"{size}-{kind}.gguf"
        make_room = self._make_room(size, self.folder(size), self.folder(size, form))
        try:
            return gguf.ensure(random_checkpoint.SIZES[size], kind, path, make_room=make_room)
        except OSError as error:
            raise Unavailable(str(error)) from error

    def _original(self, size: str) -> Path:
        if size in self.folders:
            return self.folders[size]
        free = available_bytes()
        if self.device == "cpu" and free < NEEDED_BYTES[size]:
            raise Unavailable(
                f"{size} wants {NEEDED_BYTES[size] / 1e9:.0f} GB of memory, "
                f"{free / 1e9:.1f} GB are free: end what else runs, or take a larger machine"
            )
        folder = self.room.root / size
        make_room = self._make_room(size, folder)
        return random_checkpoint.ensure(random_checkpoint.SIZES[size], folder, make_room=make_room)

    def _make_room(self, size: str, *kept: Path) -> MakeRoom:
        """Makes room for a file of ``size``; models go first, as they hold on to their files."""

        def make(needed: int) -> None:
            if self.room.lacks(needed):
                self.release()
                self.room.make(needed, size, kept)

        return make

    def checkpoint(self, size: str, form: str = "bf16") -> Checkpoint:
        """The checkpoint, brought into memory as the command does it before anything is loaded."""
        found = Checkpoint.open(str(self.folder(size, form)))
        if found.folder not in self._brought and self.device == "cpu":
            forget_files(found.folder)  # what was just written lies there in small pages
            reading.read_ahead(reading.used_by_speech(found.tensors), lambda done, total: None)
            self._brought.add(found.folder)
        return found

    def model(self, size: str, form: str = "bf16") -> LanguageModel:
        """Our language model; one form of it is open at a time."""
        checkpoint = self.checkpoint(size, form)
        return self._keep(size, "ours", form, lambda: ours.language_model(checkpoint, self.device))

    def peer(self, size: str) -> Peer:
        """transformers' model, bf16."""
        folder = self.folder(size)
        return self._keep(size, "peer", "bf16", lambda: Peer.load(folder, self.device))

    def release(self) -> None:
        """Forgets all models."""
        self._size = ""
        self._kept.clear()
        gc.collect()

    def _keep(self, size: str, side: str, form: str, make: Callable[[], Any]) -> Any:
        if size != self._size:
            self.release()
            self._size = size
        if side not in self._kept or self._kept[side][0] != form:
            self._kept.pop(side, None)
            gc.collect()
            self._kept[side] = form, make()
        return self._kept[side][1]


def available_bytes() -> float:
    """Memory that could be had without swapping, from the kernel's own estimate."""
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return 1024.0 * int(line.split()[1])
    return float("inf")
