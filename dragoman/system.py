"""What this project asks of the operating system beyond Python's portable part.

Everything that only Linux has stands here, each with what happens elsewhere: the work gets done,
with more memory or without a lock. Nothing else in the project calls these parts of the system.
"""

import ctypes
import mmap
import os
import platform
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

SMAPS = Path("/proc/self/smaps")
CPUINFO, MEMINFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")
POPULATE_READ = 22  # of madvise since Linux 5.14: maps pages as if they had been read


def cores() -> int:
    """How many processor cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def processor() -> str:
    """What the processor is called; where Linux does not tell, its architecture."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def memory() -> tuple[int, int] | None:
    """Bytes of memory that this machine has, and that are free for use; None where unknown."""
    try:
        lines = MEMINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)}
    try:
        return 1024 * kilobytes["MemTotal"], 1024 * kilobytes["MemAvailable"]
    except KeyError:
        return None


def lock(file: int | FileIO, wait: bool = True) -> bool:
    """Locks an open file against other processes, until :func:`unlock` or its end.

    Raises BlockingIOError when another process has it and ``wait`` is False. Where files cannot be
    locked (some network file systems, Windows) nothing happens, and False comes back.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def unlock(file: int | FileIO) -> None:
    """Gives back what :func:`lock` took."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_UN)


def shared_file(name: str) -> tuple[FileIO, str]:
    """An empty file that this process owns, and the path at which others on this machine open it.

    On Linux it lies in memory and is gone with this process; elsewhere it is a temporary file.
    """
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        file = FileIO(os.memfd_create(name))
        return file, f"/proc/{os.getpid()}/fd/{file.fileno()}"
    handle, path = tempfile.mkstemp(prefix=f"dragoman-{name}-")
    return FileIO(handle, "r+"), path


@contextmanager
def keeping_handler(number: int) -> Generator[None, None, None]:
    """A signal is handled after the body as it was before, whatever a library did to that inside.

    Python itself can do so in its main thread only. Where there is no C library nothing happens.
    """
    libc, action = _libc(), ctypes.create_string_buffer(1_024)  # more than any sigaction
    known = libc is not None and libc.sigaction(number, None, action) == 0
    try:
        yield
    finally:
        if libc is not None and known:
            libc.sigaction(number, action, None)


@contextmanager
def ignoring(number: int) -> Generator[None, None, None]:
    """This process, and those that it starts inside, ignore a signal; in any thread."""
    libc, ignore = _libc(), ctypes.c_void_p(1)  # SIG_IGN
    with keeping_handler(number):
        if libc is not None:
            libc.signal(number, ignore)
        yield


def populate(mapped: mmap.mmap, start: int, size: int) -> None:
    """Brings bytes of a mapped file into memory, in large pages, and out of this process again.

    Raises OSError or AttributeError where the system cannot: read the file then.
    """
    mapped.madvise(mmap.MADV_HUGEPAGE)
    mapped.madvise(mmap.MADV_RANDOM)  # else Linux reads on in small pages by itself
    mapped.madvise(POPULATE_READ, start, size)
    mapped.madvise(mmap.MADV_DONTNEED, start, size)


def mappings() -> str:
    """What this process has mapped, in the form of Linux's `smaps`; empty elsewhere."""
    if sys.platform != "linux" or not SMAPS.exists():
        return ""
    return SMAPS.read_text(encoding="utf-8", errors="surrogateescape")


def trim_heap() -> None:
    """Gives free memory of the heap back to the system, where the C library can."""
    libc = _libc()
    if libc is not None and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def drop_pages(start: int, stop: int) -> None:
    """Takes the whole pages in the addresses [start, stop) out of this process's memory.

    Only for pages of a file that were never written: they come back from it when they are used.
    """
    libc = _libc()
    start, stop = -(-start // mmap.PAGESIZE), stop // mmap.PAGESIZE
    if libc is not None and start < stop:
        size = ctypes.c_size_t((stop - start) * mmap.PAGESIZE)
        libc.madvise(ctypes.c_void_p(start * mmap.PAGESIZE), size, mmap.MADV_DONTNEED)


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None
