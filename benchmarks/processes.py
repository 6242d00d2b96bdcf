"""The processes below one, their names, and the memory of each, as Linux tells them in /proc.

For runs that kill processes, or watch them grow.
"""

import os
from pathlib import Path

PROC = Path("/proc")


def below(pid: int) -> dict[int, str]:
    """All processes below ``pid`` with their names: `raylet`, `ray::RayRunner` and such."""
    parents = {other: _parent(other) for other in _all()}
    found, layer = {}, {pid}
    while layer := {other for other, parent in parents.items() if parent in layer}:
        found |= {other: name(other) for other in layer}
    return found


def name(pid: int) -> str:
    """The program's file name, or what a process calls itself; empty for one that has ended."""
    words = _read(pid, "cmdline").split("\0")
    program = words[0].rpartition("/")[2]
    if not program.startswith("python"):
        return program.partition(".")[0]
    scripts = [word for word in words[1:] if word.endswith(".py") or word.startswith("dragoman")]
    return Path(scripts[0]).stem if scripts else program


def resident(pid: int) -> int:
    """Bytes of memory that ``pid`` has to itself or shares; 0 for one that has ended."""
    pages = _read(pid, "statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if pages else 0


def _all() -> list[int]:
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def _parent(pid: int) -> int:
    words = _read(pid, "stat").rpartition(")")[2].split()
    return int(words[1]) if words else 0


def _read(pid: int, file: str) -> str:
    try:
        return (PROC / str(pid) / file).read_text(errors="replace")
    except OSError:
        return ""
