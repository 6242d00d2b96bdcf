"""The folder of one Ray: its sockets and logs, apart from those of all other programs.

For :mod:`pipeline.ray_processes`. Ray keeps a folder of each run for ever, and everything in one
place, where `--address auto` of another program finds it. Ours goes with its Ray; what a process
that was killed has left is removed by the next start.
"""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from dragoman import system
from dragoman.errors import PipelineError

PREFIX = "dragoman-ray-"
LOCK = "in-use"  # a file that the owner has locked
FRESH_S = 60.0  # a folder that is younger may not be locked yet
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107  # the longest path of a socket
# What ours have behind the folder's parent: its name, the session's, "sockets/plasma_store".
BELOW_BYTES = len("/" + PREFIX) + 8 + 70


class RayFolder:
    """A new folder at ``path``. Raises PipelineError where there is no place for one."""

    def __init__(self) -> None:
        parent = _parent()
        _sweep(parent)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._file = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT)
        system.lock(self._file)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._file)


def _parent() -> Path:
    """Where temporary files go, unless the paths of sockets would be too long there."""
    asked = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    for place in (asked, "/tmp"):
        fits = len(os.fsencode(place)) + BELOW_BYTES <= SOCKET_BYTES
        if fits and os.access(place, os.W_OK):
            return Path(place)
    raise PipelineError(
        f"Ray's sockets do not fit below {asked}: their paths may have {SOCKET_BYTES} bytes, which "
        f"leaves {SOCKET_BYTES - BELOW_BYTES} for the folder: set TMPDIR to one that is short and "
        "can be written to, or run without Ray (--no-ray)"
    )


def _sweep(parent: Path) -> None:
    for path in parent.glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError):  # somebody else's, or in use
            if time.time() - path.stat().st_mtime > FRESH_S:
                _remove_unless_locked(path)


def _remove_unless_locked(path: Path) -> None:
    file = os.open(path, os.O_RDWR)
    try:
        if system.lock(file, wait=False):
            shutil.rmtree(path.parent, ignore_errors=True)
    finally:
        os.close(file)
