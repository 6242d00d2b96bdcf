"""The parts of the spoken corpus on disk: their records, and a reader that follows their growth.

Place: written by `training.speech`, read by the training loop and the evaluation. Needs numpy only.

A part is `SPLIT/SYNTHESIZER/NAME.npy` (int16 at 16 kHz, utterances end to end) and `NAME.jsonl` (a
`Record` a line); it is whole once the .jsonl is there.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.text.leaks import NearIndex
from training.text.tables import LANGUAGES, SPLITS

SAMPLE_RATE_HZ = 16_000


class LeakError(ValueError):
    """A sentence or voice kept for evaluation appears in training."""


@dataclass(frozen=True)
class Record:
    """What is stored of an utterance beside its samples.

    samples: its length. texts: what it says, by language; it says texts[language]. ids: of its
    sentences. word_starts_samples, word_ends_samples: one entry per whitespace-separated word,
    exact where `exact_times`, else estimated.
    """

    samples: int
    language: str
    texts: dict[str, str]
    ids: list[str]
    synthesizer: str
    voice: str
    exact_times: bool
    word_starts_samples: list[int]
    word_ends_samples: list[int]


@dataclass(frozen=True)
class Example:
    """One utterance. samples: int16 [S] at 16 kHz."""

    samples: np.ndarray
    record: Record

    @property
    def language(self) -> str:
        return self.record.language

    @property
    def text(self) -> str:
        return self.record.texts[self.record.language]

    @property
    def words(self) -> list[str]:
        return self.text.split()

    def translation(self, language: str) -> str:
        return self.record.texts[language]


class Speech:
    """The utterances of one split that exist now, as a sequence; `refresh` takes new parts in.

    synthesizers, languages: only these; all by default. Samples stay on disk until asked for. An
    index once given out stays valid: new parts come behind the old ones.
    Raises ValueError for an unknown split or language.
    """

    def __init__(
        self,
        folder: Path | str,
        split: str = "train",
        synthesizers: Iterable[str] | None = None,
        languages: Iterable[str] = LANGUAGES,
    ):
        self._languages = frozenset(languages)
        if split not in SPLITS or not self._languages <= set(LANGUAGES):
            raise ValueError(
                f"got split {split!r} and languages {sorted(self._languages)}, expected one of "
                f"{SPLITS} and some of {LANGUAGES}"
            )
        self._folder = Path(folder) / split
        self._synthesizers = None if synthesizers is None else frozenset(synthesizers)
        self._parts: dict[Path, np.ndarray] = {}
        self._places: list[tuple[Path, int]] = []  # part and first sample, one an utterance
        self.records: list[Record] = []
        self.refresh()

    def refresh(self) -> int:
        """Take in the parts that were finished since; returns how many utterances are new."""
        before = len(self.records)
        for path in sorted(self._folder.glob("*/*.jsonl")):
            known = path in self._parts
            wanted = self._synthesizers is None or path.parent.name in self._synthesizers
            if wanted and not known:
                self._take(path)
        return len(self.records) - before

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"utterance {index} of {len(self)}")
        path, first = self._places[index]
        record = self.records[index]
        return Example(np.array(self._parts[path][first : first + record.samples]), record)

    @property
    def seconds(self) -> float:
        return sum(record.samples for record in self.records) / SAMPLE_RATE_HZ

    def _take(self, path: Path) -> None:
        self._parts[path] = np.load(path.with_suffix(".npy"), mmap_mode="r")
        first = 0
        for line in path.read_text(encoding="utf-8").splitlines():
            record = Record(**json.loads(line))
            if record.language in self._languages:
                self._places.append((path, first))
                self.records.append(record)
            first += record.samples


def check_disjoint(folder: Path | str) -> None:
    """Raise LeakError if evaluation is in training: a row of text, a sentence that differs by at
    most a word from an evaluation sentence of its language, or a voice.
    """
    trained = Speech(folder, "train").records
    kept = Speech(folder, "dev").records + Speech(folder, "test").records
    _refuse("rows of text", {_row(r) for r in trained} & {_row(r) for r in kept})
    voices = {(r.synthesizer, r.voice) for r in trained} & {(r.synthesizer, r.voice) for r in kept}
    _refuse("voices", voices)
    for language in LANGUAGES:
        index = NearIndex(record.texts[language] for record in kept)
        said = (record.texts[language] for record in trained)
        _refuse(f"sentences in {language}", {text for text in said if index.near(text)})


def _row(record: Record) -> str:
    """The row of sentences or frames that the utterance begins with."""
    return record.ids[0].split("/")[0]


def _refuse(what: str, shared: set) -> None:
    if shared:
        raise LeakError(f"{len(shared)} {what} of evaluation are in training, as {min(shared)!r}")
