"""Counts what the tables hold and looks for leaks: python -m training.text [FOLDER]."""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from training.text.leaks import words
from training.text.tables import FOLDER, LANGUAGES, SPLITS
from training.text.texts import Texts


def main() -> None:
    parser = argparse.ArgumentParser(description="Count sentences, frames and word forms.")
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    texts = Texts(parser.parse_args().folder)
    fillers = sum(len(entries) for entries in texts.fillers.values())
    for split in SPLITS:
        print(
            f"{split}: {len(texts.sentences[split])} sentences, {len(texts.frames[split])} frames"
        )
    print(f"{fillers} fillers in {len(texts.fillers)} categories")
    for language in LANGUAGES:
        forms = set(_words(texts, language))
        print(f"{language}: {len(forms)} word forms")
    dropped = sum(texts.leaks(sentence) for sentence in texts.sentences["train"])
    print(f"{dropped} training sentences are left out: too near to an evaluation sentence")


def _words(texts: Texts, language: str) -> Iterator[str]:
    """Words of all sentences, frames and fillers of a language; a slot counts for nothing."""
    index = LANGUAGES.index(language)
    for split in SPLITS:
        yield from _split(s.texts[language] for s in texts.sentences[split])
        for frame in texts.frames[split]:
            yield from _split(piece for piece in frame.cells[index] if isinstance(piece, str))
    for fillers in texts.fillers.values():
        for filler in fillers:
            entry = filler.entries[index]
            yield from _split((entry.text, entry.plural, entry.feminine))


def _split(cells: Iterable[str]) -> Iterator[str]:
    for cell in cells:
        yield from words(cell.replace("*", "").replace("'", "' "))


if __name__ == "__main__":
    main()
