"""Tensors made of those in other files, kept in one file of the user's cache folder.

For folders whose weights need work before anybody can map them: merged adapters and MLX weights.
They are made once, a few megabytes at a time, and from then on every process maps them as if the
folder had them. Unusual: only tensors that differ are made, so a merged adapter costs what it
changes, and the rest stays in the base model's own files. A file is named after all that it
depends on; one that nobody opened for two months goes when another is made. Free of torch.
"""

import contextlib
import hashlib
import json
import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dragoman import system
from dragoman.errors import CheckpointError
from dragoman.models import shards
from dragoman.models.reading import ITEM_BYTES, Stored, header

FORM = 1  # of what is made; another one makes all anew
DAY_S = 86_400.0
KEEP_S = 60 * DAY_S  # unread

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """A tensor to be made: ``make`` gives its bits in order, as arrays of whole items."""

    dtype: str
    shape: tuple[int, ...]
    make: Callable[[], Iterator[np.ndarray]]

    @property
    def item_bytes(self) -> int:
        return ITEM_BYTES[self.dtype]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.item_bytes

    def pieces(self) -> Iterator[np.ndarray]:
        return self.make()


def folder() -> Path:
    """Where the files lie; nothing makes it before there is one to write."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dragoman" / "models"


def kept(made: Mapping[str, Made], sources: Iterable[Path], what: str) -> dict[str, Stored]:
    """The tensors ``made`` by their names, in a file that is written now unless it is there.

    ``sources`` are the files that they depend on, ``what`` is named to whoever waits.
    Raises CheckpointError where they cannot be written.
    """
    if not made:
        return {}
    path = folder() / f"{_key(made, sources)}.safetensors"
    try:
        if not path.is_file():
            _write(path, made, what)
        _mark_read(path)
    except OSError as error:
        raise CheckpointError(
            f"{what} cannot be written to {path.parent} ({error.strerror}): set XDG_CACHE_HOME to "
            "a folder with room"
        ) from None
    return {stored.name: stored for stored in header(path)}


def _key(made: Mapping[str, Made], sources: Iterable[Path]) -> str:
    files = []
    for source in sorted({source.resolve() for source in sources}):
        status = source.stat()
        files.append([str(source), status.st_size, status.st_mtime_ns])
    tensors = [[name, part.dtype, list(part.shape)] for name, part in sorted(made.items())]
    return hashlib.sha256(json.dumps([FORM, files, tensors]).encode()).hexdigest()


def _write(path: Path, made: Mapping[str, Made], what: str) -> None:
    """Whole or not at all; of several processes that want it one writes and the others wait."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.with_suffix(".lock").open("wb") as lock:
        system.lock(lock.fileno())
        if path.is_file():
            return
        _prune(path.parent)
        needed, free = (
            sum(part.bytes for part in made.values()),
            shutil.disk_usage(path.parent).free,
        )
        if free < needed:
            raise CheckpointError(
                f"{path.parent} has {free / 1e9:.1f} GB left, and {what} needs "
                f"{needed / 1e9:.1f} GB: set XDG_CACHE_HOME to a folder on another disk"
            )
        log.warning("making %s, %.1f GB, once: it stays in %s", what, needed / 1e9, path.parent)
        handle, building = tempfile.mkstemp(dir=path.parent, suffix=".part")
        os.close(handle)
        try:
            for _ in shards.write_file(Path(building), made):
                pass
            os.replace(building, path)
        except BaseException:
            os.unlink(building)
            raise


def _mark_read(path: Path) -> None:
    """The time of a file is when it was last opened, to the day."""
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > DAY_S:
            os.utime(path)


def _prune(folder: Path) -> None:
    """Removes what was not opened for `KEEP_S`, and halves of files whose writer died."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            patience = DAY_S if path.suffix == ".part" else KEEP_S
            if path.suffix != ".lock" and time.time() - path.stat().st_mtime > patience:
                path.unlink()
