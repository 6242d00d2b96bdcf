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
from benchmarks.machine import Machine
from benchmarks.rows import Unavailable
from models.checkpoint import Checkpoint, CheckpointError

NEEDED_BYTES = {"E2B": 10e9, "E4B": 14e9}  # weights without the PLE table, and room to work


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
    _size: str = ""
    _kept: dict[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> str:
        return self.machine.device

    @property
    def rounds(self) -> int:
        return 1 if self.small else 3 if self.quick else 7

    def folder(self, size: str, form: str = "bf16") -> Path:
        """The checkpoint of ``size`` in ``form`` (`bf16`, `int8` or `int4`).

        Raises Unavailable without room in memory or on disk.
        """
        from benchmarks.ours import quantized

        try:
            return quantized(self._original(size), form)
        except (CheckpointError, OSError) as error:
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
        wanted = random_checkpoint.SIZES[size]
        return random_checkpoint.ensure(wanted, random_checkpoint.FOLDERS / size)

    def checkpoint(self, size: str) -> Checkpoint:
        folder = self.folder(size)
        return self._keep(size, "checkpoint", lambda: Checkpoint.open(str(folder)))

    def model(self, size: str, form: str = "bf16"):
        """Our language model: `bf16`, `int8` or `int4`."""
        from benchmarks.ours import language_model

        folder = str(self.folder(size, form))
        return self._keep(size, form, lambda: language_model(Checkpoint.open(folder), self.device))

    def peer(self, size: str):
        """transformers' model, bf16."""
        from benchmarks.peer import Peer

        folder = self.folder(size)
        return self._keep(size, "peer", lambda: Peer.load(folder, self.device))

    def release(self) -> None:
        """Forgets all models."""
        self._size = ""
        self._kept.clear()
        gc.collect()

    def _keep(self, size: str, name: str, make: Callable[[], Any]) -> Any:
        if size != self._size:
            self.release()
            self._size = size
        if name not in self._kept:
            for other in ("bf16", "int8", "int4"):
                if name in ("bf16", "int8", "int4"):
                    self._kept.pop(other, None)
            gc.collect()
            self._kept[name] = make()
        return self._kept[name]


def available_bytes() -> float:
    """Memory that could be had without swapping, from the kernel's own estimate."""
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return 1024.0 * int(line.split()[1])
    return float("inf")
