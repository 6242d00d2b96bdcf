"""Room on the disk: what the measurements wrote, and can write again, gives way to what they need.

Checkpoints of true size, the folders made of them in other forms, and GGUF files need more room
together than many disks have. Only what has the name of one of these, or was left half written by
a run that was killed, is ever removed; and nothing is, where all of it would not be enough.
"""

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.rows import Unavailable

SPARE_BYTES = 2**29  # beside the weights: vocabularies, headers, what else is written meanwhile
MakeRoom = Callable[[int], None]  # for so many bytes; raises Unavailable or OSError


def free_bytes(folder: Path) -> int:
    """What the disk of ``folder`` has left."""
    return shutil.disk_usage(folder).free


class Room:
    """A folder of files that can be made again; ``forms`` in the order in which they are used.

    They are called SIZE (the checkpoint, the first of the forms), SIZE-FORM, and SIZE-FORM.gguf.
    """

    def __init__(
        self,
        root: Path,
        sizes: Sequence[str],
        forms: Sequence[str],
        free: Callable[[Path], int] = free_bytes,
        say: Callable[[str], None] = print,
    ) -> None:
        self.root = root
        self._sizes, self._forms, self._free, self._say = sizes, forms, free, say

    def lacks(self, needed: int) -> bool:
        """Whether something has to go before ``needed`` bytes can be written."""
        self.root.mkdir(parents=True, exist_ok=True)
        return self._free(self.root) < needed + SPARE_BYTES

    def make(self, needed: int, size: str, kept: Collection[Path] = ()) -> None:
        """Removes what is not ``kept``, one by one, until ``needed`` bytes can be written.

        Files of the ``size`` that is being measured go last. Raises Unavailable without room.
        """
        there = [path for path in self._in_turn(size) if path not in kept]
        sizes = {path: _bytes(path) for path in there}
        if self.lacks(needed - sum(sizes.values())):
            raise Unavailable(
                f"needs {(needed + SPARE_BYTES) / 1e9:.1f} GB of disk: {self.root} has "
                f"{self._free(self.root) / 1e9:.1f} GB left, and {sum(sizes.values()) / 1e9:.1f} "
                "GB of files that could be made again"
            )
        for path, bytes_ in sizes.items():
            if not self.lacks(needed):
                return
            _remove(path)
            self._say(
                f"  (removed {path}, {bytes_ / 1e9:.1f} GB, for want of room on the disk: it is "
                "made again when it is needed)"
            )

    def _in_turn(self, size: str) -> list[Path]:
        """What can be made again, as it goes: halves, GGUF files, then those needed last."""
        sizes = [*(other for other in self._sizes if other != size), size]
        first, *others = self._forms
        forms = {first: "", **{form: f"-{form}" for form in others}}
        names = [f"{each}-{form}.gguf" for each in sizes for form in forms]
        names += [each + forms[form] for each in sizes for form in reversed(forms)]
        halves = [
            half
            for name in names
            for pattern in (f".{name}.????????", f"{name}.partial")
            for half in self.root.glob(pattern)
        ]
        named = (self.root / name for name in names)
        return [*halves, *(path for path in named if path.exists() and not path.is_symlink())]


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write a file under, which is called ``path`` at the end or vanishes on an error."""
    half = path.with_name(f"{path.name}.partial")
    try:
        yield half
        os.replace(half, path)
    except BaseException:
        half.unlink(missing_ok=True)
        raise


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.lstat().st_size for file in files)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
