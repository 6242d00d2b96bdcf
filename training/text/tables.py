"""Reads the tables of text: tab separated, one column a language, a header line.

Place: below `training.text.texts`, which draws from the rows. A row is named by its topic and a
hash of its cells, so adding rows elsewhere never renames it or moves it to another split.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = ("en", "es", "fr", "it", "pt")
SPLITS = ("train", "dev", "test")
FOLDER = Path(__file__).parent
_SENTENCE_SHARES = (4, 4)  # percent of dev and of test
_FRAME_SHARES = (5, 5)
_ADJECTIVES, _NAMES = "adj", "name"


class TableError(ValueError):
    """A table that is not as its readers need it; the message names the file and the line."""


@dataclass(frozen=True)
class Row:
    """One thing to say. cells: one a language, in the order of LANGUAGES."""

    topic: str
    cells: tuple[str, ...]
    place: str  # "file:line", for messages

    @property
    def id(self) -> str:
        return f"{self.topic}:{digest(*self.cells) % 16**8:08x}"


@dataclass(frozen=True)
class Entry:
    """One language's side of a filler.

    text: singular or only form. gender: "m", "f", "fa" (Spanish feminine that takes `el`), or "".
    plural: "" if there is none. feminine: of an adjective. French words that let no vowel fall
    before them begin with `*`.
    """

    text: str
    gender: str = ""
    plural: str = ""
    feminine: str = ""


@dataclass(frozen=True)
class Filler:
    """What may stand in a slot of the category. entries: one a language."""

    category: str
    id: str
    entries: tuple[Entry, ...]


def digest(*parts: str) -> int:
    """64 bits of SHA-256 over the parts."""
    return int.from_bytes(hashlib.sha256("\t".join(parts).encode()).digest()[:8])


def sentence_split(english: str) -> str:
    return _split(english, _SENTENCE_SHARES)


def frame_split(english: str) -> str:
    return _split("frame " + english, _FRAME_SHARES)


def _split(key: str, shares: tuple[int, int]) -> str:
    number = digest(key) % 100
    if number < shares[0]:
        return "dev"
    return "test" if number < sum(shares) else "train"


def read_rows(folder: Path) -> list[Row]:
    """All rows of a folder's tables, in the order of file names and lines.

    Raises TableError for a wrong header, a wrong number of cells, or an empty cell.
    """
    return [row for path in sorted(folder.glob("*.tsv")) for row in _rows(path)]


def read_fillers(folder: Path) -> dict[str, list[Filler]]:
    """Fillers by category, which is the name of the file. Raises TableError like `read_rows`."""
    fillers: dict[str, list[Filler]] = {}
    for row in read_rows(folder):
        entries = tuple(_entry(row, cell) for cell in row.cells)
        fillers.setdefault(row.topic, []).append(Filler(row.topic, row.id, entries))
    return fillers


def _rows(path: Path) -> Iterator[Row]:
    lines = path.read_text(encoding="utf-8").split("\n")
    if tuple(lines[0].split("\t")) != LANGUAGES:
        raise TableError(
            f"{path}:1: expected the header {' '.join(LANGUAGES)} with tabs between, "
            f"got {lines[0]!r}"
        )
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue
        cells = tuple(cell.strip() for cell in line.split("\t"))
        if len(cells) != len(LANGUAGES) or not all(cells):
            raise TableError(
                f"{path}:{number}: expected {len(LANGUAGES)} filled cells, got {cells}; "
                "separate them with single tabs"
            )
        yield Row(path.stem, cells, f"{path}:{number}")


def _entry(row: Row, cell: str) -> Entry:
    parts = cell.split("|")
    if row.topic == _ADJECTIVES:
        return Entry(parts[0], feminine=parts[-1])
    if row.topic == _NAMES and len(parts) == 2:
        return Entry(parts[0], gender=parts[1])
    if len(parts) == 3:
        return Entry(parts[0], gender=parts[1], plural=parts[2])
    if len(parts) == 1:
        return Entry(cell)
    raise TableError(
        f"{row.place}: expected `text`, `singular|gender|plural` or `name|gender`, got {cell!r}"
    )
