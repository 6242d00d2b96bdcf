"""One's own speech for fine-tuning: recordings, what is said in them, and its translation.

In front of :mod:`training.lora`. A folder holds NAME.wav (or any format that FFmpeg reads) beside
NAME.txt, and NAME.en.txt where there is an English translation. Or a manifest names the files: a
.tsv with a line of column names, or a .jsonl; the keys are `audio`, `text` and, if there is one,
`translation`, and paths are relative to the manifest.

Unusual: whether a recording is held out is told by its own name alone, so more recordings later do
not move it into training. (Only where no name would be, the nearest one is.)
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dragoman.errors import InputError
from dragoman.sources import SAMPLE_RATE_HZ, open_source

MOST_SECONDS = 30.0  # what released models were trained on
TEXTS = ".txt"


@dataclass(frozen=True)
class Recording:
    """A file of one utterance. ``translation`` is empty where there is none."""

    path: Path
    text: str
    translation: str = ""

    def samples(self, language: str) -> np.ndarray:
        """float32 [S] at 16 kHz. Raises InputError for a file that cannot be read, or is longer
        than a model hears at once.
        """
        pieces = [*open_source(self.path, language).pieces]
        found = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        seconds = len(found) / SAMPLE_RATE_HZ
        if not 0 < seconds <= MOST_SECONDS:
            raise InputError(
                f"{self.path} has {seconds:.1f} s of sound, expected up to {MOST_SECONDS:.0f}: "
                "cut it between sentences, its text too"
            )
        return found


@dataclass(frozen=True)
class Recordings:
    """What is learnt from, and what tells whether it helped."""

    learnt: list[Recording]
    held_out: list[Recording]


def read(source: Path, target_language: str, held_out: float) -> Recordings:
    """The recordings of a folder or a manifest, a share of them ``held_out``.

    Raises InputError where there are none, or where something is missing.
    """
    found = [*(_of_folder(source, target_language) if source.is_dir() else _of_manifest(source))]
    found.sort(key=lambda recording: recording.path.name)
    kept = [recording for recording in found if _draw(recording) < held_out]
    kept = kept or sorted(found, key=_draw)[:1]
    if len(found) <= len(kept):
        raise InputError(
            f"{source}: {len(found)} recordings with a text, {len(kept)} of them to hold out; that "
            f"leaves none to learn from: put NAME{TEXTS} beside more NAME.wav, or name them in a "
            ".tsv or .jsonl"
        )
    return Recordings([recording for recording in found if recording not in kept], kept)


def _draw(recording: Recording) -> float:
    """A number from 0 to 1 that depends on the file's name alone."""
    digest = hashlib.sha256(recording.path.name.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _of_folder(folder: Path, target_language: str) -> Iterator[Recording]:
    for path in sorted(folder.iterdir()):
        text = path.with_suffix(TEXTS)
        if path.suffix == TEXTS or not path.is_file() or not text.is_file():
            continue
        translation = path.with_suffix(f".{target_language}{TEXTS}")
        yield Recording(path, _text(text), _text(translation) if translation.is_file() else "")


def _text(path: Path) -> str:
    try:
        return " ".join(path.read_text(encoding="utf-8").split())
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8: convert it") from None


def _of_manifest(path: Path) -> Iterator[Recording]:
    if path.suffix not in (".tsv", ".jsonl") or not path.is_file():
        raise InputError(f"{path} is no folder, .tsv or .jsonl: give one of these")
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".tsv":
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            yield from (_row(path, number, row) for number, row in enumerate(rows, start=2))
            return
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except ValueError:
                raise InputError(f"{path}, line {number}: not JSON") from None
            yield _row(path, number, row)


def _row(path: Path, number: int, row: object) -> Recording:
    said = row if isinstance(row, Mapping) else {}
    audio, text = said.get("audio"), said.get("text")
    if not (isinstance(audio, str) and isinstance(text, str) and audio and text):
        raise InputError(f"{path}, line {number}: expected audio and text, got {row!r}")
    found = path.parent / audio
    if not found.is_file():
        raise InputError(f"{path}, line {number}: no file {found}")
    return Recording(
        found, " ".join(text.split()), " ".join((said.get("translation") or "").split())
    )
