"""What a model answered, kept by part: a run that is interrupted goes on behind its last part.

A part is one file of JSON lines, `FOLDER/MODEL-FINGERPRINT/NAME.jsonl`. Its first line says how it
was made, the others are rows. Files appear only when whole. Another version of a model has another
fingerprint, so its answers are never taken for those of the one before.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dragoman.models.hub import find

Row = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """How a part came to be: when, with which command, and what it took."""

    date: str
    command: str
    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Part:
    """One part's rows."""

    made: Made
    rows: list[Row]


class Store:
    """The parts of one model below ``folder``. ``command`` is noted with what is made."""

    def __init__(self, folder: Path, model: str, command: str) -> None:
        self.folder = folder / f"{Path(model).name}-{fingerprint(find(model))}"
        self._command = command

    def part(self, name: str, make: Callable[[], Iterable[Row]]) -> Part:
        """The rows called ``name``: those that are kept, or else what ``make`` gives."""
        kept = self.read(name)
        if kept is not None:
            return kept
        wall, cpu = time.monotonic(), time.process_time()
        rows = list(make())
        made = Made(
            time.strftime("%Y-%m-%d"),
            self._command,
            round(time.monotonic() - wall, 2),
            round(time.process_time() - cpu, 2),
        )
        self._write(self._path(name), [asdict(made), *rows])
        return Part(made, rows)

    def read(self, name: str) -> Part | None:
        """The rows called ``name`` if they are kept."""
        path = self._path(name)
        if not path.is_file():
            return None
        first, *rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        return Part(Made(**first), rows)

    def parts(self, below: str) -> dict[str, Part]:
        """All parts whose names begin with ``below/``, by the rest of their names."""
        folder = self.folder / below
        names = sorted(path.relative_to(self.folder) for path in folder.rglob("*.jsonl"))
        found = {str(name.with_suffix("")): self.read(str(name.with_suffix(""))) for name in names}
        return {name.removeprefix(f"{below}/"): part for name, part in found.items() if part}

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"

    def _write(self, path: Path, lines: Iterable[Row]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(path.name + ".half")
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        half.write_text(text, encoding="utf-8")
        os.replace(half, path)


def fingerprint(folder: Path) -> str:
    """Eight hex digits that change with a model's files: what they hold, or, of large ones, their
    size and the time of their last change.
    """
    found = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        if path.suffix not in (".json", ".safetensors"):
            continue
        about = path.stat()
        small = about.st_size < 2**28
        found.update(path.name.encode())
        found.update(
            path.read_bytes() if small else f"{about.st_size} {about.st_mtime_ns}".encode()
        )
    return found.hexdigest()[:8]
