"""Machine code kept from one start to the next, in files of the user's cache folder.

LLVM takes a second or two for the functions of a session, and tens of megabytes; reading what it
made the last time takes a millisecond a function. Unusual: nothing here may fail. Without a folder
to write to, or with a file that is damaged, code is made anew.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

DIGEST_BYTES = 32


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
        if hashlib.sha256(text[DIGEST_BYTES:]).digest() == text[:DIGEST_BYTES]:
            return text[DIGEST_BYTES:]
    except FileNotFoundError:
        pass
    except (OSError, RuntimeError):  # RuntimeError: nobody's home
        return make()
    code = make()
    with contextlib.suppress(OSError):
        _write(path, hashlib.sha256(code).digest() + code)
    return code


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
