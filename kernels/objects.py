"""Machine code kept from one start to the next, in files of the user's cache folder.

LLVM takes a second or two for the functions of a session, and tens of megabytes; reading what it
made the last time takes a millisecond a function. What nobody has read for two months goes, and
the oldest where there is too much: every new version of a program leaves its old code behind.
Unusual: nothing here may fail. Without a folder to write to, or with a file that is damaged, code
is made anew.
"""

import contextlib
import functools
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

DIGEST_BYTES = 32
DAY_S = 86_400.0
KEEP_S = 60 * DAY_S  # unread
KEEP_BYTES = 64 * 2**20  # the functions of a model take less than one of these MiB


def folder() -> Path:
    """Where the files lie; nothing makes it before there is one to write."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dragoman" / "kernels"


def kept(source: str, make: Callable[[], bytes]) -> bytes:
    """What ``make`` made of ``source`` some time, or makes now.

    ``source`` says all that the code depends on: the program, the compiler and the CPU.
    """
    try:
        path = folder() / f"{hashlib.sha256(source.encode()).hexdigest()}.o"
        text = path.read_bytes()
        _mark_read(path)
        if hashlib.sha256(text[DIGEST_BYTES:]).digest() == text[:DIGEST_BYTES]:
            return text[DIGEST_BYTES:]
    except FileNotFoundError:
        pass
    except (OSError, RuntimeError):  # RuntimeError: nobody's home
        return make()
    code = make()
    with contextlib.suppress(OSError):
        _write(path, hashlib.sha256(code).digest() + code)
        _prune_once(path.parent)
    return code


def prune(folder: Path) -> None:
    """Removes what was not read for `KEEP_S`, then the oldest until `KEEP_BYTES` are left."""
    now = time.time()
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another process prunes, too
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    left = sum(size for _, size, _ in found)
    for read_at, size, path in sorted(found):
        patience = KEEP_S if path.suffix == ".o" else DAY_S  # half a file is of a writer that died
        if now - read_at > patience or left > KEEP_BYTES:
            with contextlib.suppress(OSError):
                path.unlink()
            left -= size


@functools.cache
def _prune_once(folder: Path) -> None:
    prune(folder)


def _mark_read(path: Path) -> None:
    """The time of a file is when it was last read, to the day."""
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > DAY_S:
            os.utime(path)


def _write(path: Path, text: bytes) -> None:
    """Whole or not at all, whoever else writes the same."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        try:
            file.write(text)
            file.close()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
