"""Memory that a process touched to get started and uses no more, given back to the system.

Importing torch brings in a third of a gigabyte of code, most of it for accelerators that a machine
may not have, and making kernels brings in a compiler. Nothing is lost by giving that back: a page
of a file that was mapped and never written is the file's, and comes back when somebody uses it.
Unusual: memory is managed by hand, with what Linux tells of a process; elsewhere nothing happens
(`dragoman.system`).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dragoman import system

if TYPE_CHECKING:  # not every stage has torch in its process
    from torch import Tensor

HEADER = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+ *(.*)")
WRITTEN = ("Anonymous:", "Swap:")  # pages of a mapping that are no longer those of its file


@dataclass
class Mapped:
    """A range of addresses, [start, stop), of ``file``; ``written``: bytes that differ from it."""

    start: int
    stop: int
    mode: str
    file: str
    written: int = 0

    @property
    def clean(self) -> bool:
        """Whether the file has all that is in memory."""
        return self.file.startswith("/") and self.mode.endswith("p") and not self.written


def give_back() -> None:
    """Gives back free memory of the heap, and the code of all libraries.

    What of the code is in use comes back at once, from the page cache; the rest does not. For the
    time after loading, and after a first run of what was loaded.
    """
    trim()
    found = list(mapped())
    programs = {mapping.file for mapping in found if "x" in mapping.mode}
    for mapping in found:
        if mapping.file in programs and mapping.clean and "w" not in mapping.mode:
            system.drop_pages(mapping.start, mapping.stop)


def trim() -> None:
    """Gives back free memory of the heap, which takes a millisecond or two.

    Left alone, the C library keeps up to 64 MB at the heap's end, and every hole in it.
    """
    system.trim_heap()


def forget(weights: "Iterable[Tensor]") -> None:
    """Gives back the pages of mapped weights that are not used any more, or hardly ever.

    They stay what they are: who reads them reads the file again. Those that are not mapped from a
    file, or were changed, are left alone.
    """
    files = [mapping for mapping in mapped() if mapping.clean]
    for weight in weights:
        start, stop = weight.data_ptr(), weight.data_ptr() + weight.nbytes
        if any(file.start <= start and stop <= file.stop for file in files):
            system.drop_pages(start, stop)


def mapped() -> Iterator[Mapped]:
    """What this process has mapped, as the kernel tells it."""
    current = None
    for line in system.mappings().splitlines():
        if header := HEADER.match(line):
            if current is not None:
                yield current
            start, stop, mode, file = header.groups()
            current = Mapped(int(start, 16), int(stop, 16), mode, file)
        elif line.startswith(WRITTEN) and current is not None:
            current.written += 1024 * int(line.split()[1])
    if current is not None:
        yield current
