"""What the machine can do at best, measured: the limits that results are compared with.

Decoding one token reads every weight once, so it is bound by how fast memory is read; a prompt is
bound by matrix products. Unusual: the limits are the best of several tries, not medians, and are
measured with torch on as many threads as the benchmarks use. Memory is quick and slow by turns on
a machine that is shared, so rows compare themselves with what it gave between their own rounds.
"""

import os
import platform
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import Contender, clock
from dragoman import system

READ_BYTES = {"cpu": 2**30, "cuda": 4 * 2**30}
GEMM_WIDTH = {"cpu": 3072, "cuda": 8192}
TRIES = 7
ROUND_TRIES = 3  # between two rounds of a row


@dataclass(frozen=True)
class Machine:
    """A device and its measured limits: bytes/s read, bf16 FLOP/s in a large matrix product."""

    device: str
    name: str
    cores: int
    memory_bytes: int
    read_bandwidth: float
    gemm_rate: float

    @property
    def short(self) -> str:
        """One line for the results."""
        return f"{self.name}, {self.cores} cores"

    def describe(self) -> str:
        return (
            f"{self.short}, {self.memory_bytes / 1e9:.0f} GB: reads "
            f"{self.read_bandwidth / 1e9:.1f} GB/s, bf16 products at "
            f"{self.gemm_rate / 1e9:.0f} GFLOP/s ({torch.get_num_threads()} threads, "
            f"torch {torch.__version__}, {self.device})"
        )


def measure(device: str, scale: float = 1.0) -> Machine:
    """Measures ``device``, `cpu` or `cuda`; ``scale`` below 1 makes the arrays smaller."""
    return Machine(
        device=device,
        name=_name(device),
        cores=system.cores(),
        memory_bytes=_memory(device),
        read_bandwidth=Reading(device, scale).bandwidth(),
        gemm_rate=_gemm_rate(device, _width(device, scale)),
    )


class Reading:
    """A large array that all threads read: how fast memory is, here and now."""

    def __init__(self, device: str, scale: float = 1.0) -> None:
        self._values = torch.ones(int(READ_BYTES[device] * scale) // 4, device=device)

    def bandwidth(self, tries: int = TRIES) -> float:
        """Bytes a second, the best of several tries."""
        return self._values.nbytes / _best(lambda: self._values.sum(), tries)


class Beside:
    """What the machine gave between the rounds of a row; medians over the rounds count.

    ``contender`` takes its turn among the others. Matrix products are measured on demand only.
    """

    def __init__(self, device: str, scale: float = 1.0, products: bool = False) -> None:
        self._reading = Reading(device, scale)
        self._device, self._width = device, _width(device, scale) if products else 0
        self._bandwidths: list[float] = []
        self._rates: list[float] = []

    @property
    def contender(self) -> Contender:
        return Contender(lambda _: self.measure())

    def measure(self) -> None:
        """One round."""
        self._bandwidths.append(self._reading.bandwidth(ROUND_TRIES))
        if self._width:
            self._rates.append(_gemm_rate(self._device, self._width, ROUND_TRIES))

    @property
    def bandwidth(self) -> float:
        """Bytes read a second; the first of several rounds warmed up."""
        return statistics.median(self._bandwidths[1:] or self._bandwidths)

    @property
    def rate(self) -> float:
        """FLOP/s; infinite where products were not measured."""
        rates = self._rates[1:] or self._rates
        return statistics.median(rates) if rates else float("inf")

    def seconds(self, read_bytes: float, flops: float = 0.0) -> float:
        """The least time for reading so much and computing so much, at the same time."""
        return max(read_bytes / self.bandwidth, flops / self.rate)

    def detail(self, read_bytes: float) -> dict[str, Any]:
        """What a limit was made of."""
        found = {
            "weights_gb": round(read_bytes / 1e9, 3),
            "reads_gb_s": round(self.bandwidth / 1e9, 1),
        }
        return found | ({"products_gflop_s": round(self.rate / 1e9)} if self._rates else {})


def _width(device: str, scale: float) -> int:
    return max(64, int(GEMM_WIDTH[device] * scale))


def _gemm_rate(device: str, width: int, tries: int = TRIES) -> float:
    a, b = (torch.randn(width, width, device=device).to(torch.bfloat16) for _ in range(2))
    return 2 * width**3 / _best(lambda: a @ b, tries)


def _best(work, tries: int = TRIES) -> float:
    """The shortest of several tries, in seconds."""
    spent = []
    for _ in range(tries):
        begun = clock()
        work()
        spent.append(clock() - begun)
    return min(spent)


def _name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory(device: str) -> int:
    if device == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def forget_files(folder: Path) -> None:
    """Asks the kernel to drop the files of ``folder`` from its page cache."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
