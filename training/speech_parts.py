"""The parts of the spoken corpus on disk: their records, and a reader that follows their growth.

Place: written by `training.speech`, read by the training loop and the evaluation. Needs numpy only.

    python -m training.speech_parts build/speech     # hours of each part, and leaks

A part is `SPLIT/SYNTHESIZER/NAME.npy` (int16 at 16 kHz, utterances end to end) and `NAME.jsonl` (a
`Record` a line); it is whole once the .jsonl is there.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.text.leaks import NearIndex
from training.text.tables import LANGUAGES, SPLITS

SAMPLE_RATE_HZ = 16_000
FOREIGN = ("foreign", "foreign-test")  # splits of speech in other languages, without texts


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
        """What is said; empty where nobody is to write it down."""
        return self.record.texts.get(self.record.language, "")

    @property
    def words(self) -> list[str]:
        return self.text.split()

    def translation(self, language: str) -> str:
        return self.record.texts[language]


class Speech:
    """The utterances of one split that exist now, as a sequence; `refresh` takes new parts in.

    split: one of SPLITS or of FOREIGN. synthesizers, languages: only these; all by default.
    apart_from: evaluation records; what is near to one of them in its language is left out and
    counted in `left_out`, since rows of text that were added after a part was made may be near to
    what it says. Samples stay on disk until asked for. An index once given out stays valid: new
    parts come behind the old ones.
    Raises ValueError for an unknown split or language (a split of FOREIGN takes any language).
    """

    def __init__(
        self,
        folder: Path | str,
        split: str = "train",
        synthesizers: Iterable[str] | None = None,
        languages: Iterable[str] | None = None,
        apart_from: Iterable[Record] = (),
    ):
        if split not in (*SPLITS, *FOREIGN):
            raise ValueError(f"unknown split: got {split!r}, expected one of {(*SPLITS, *FOREIGN)}")
        unknown = set(languages or ()) - set(LANGUAGES)
        if unknown and split not in FOREIGN:
            raise ValueError(f"unknown languages: {sorted(unknown)}, expected some of {LANGUAGES}")
        self._languages = None if languages is None else frozenset(languages)
        self._folder = Path(folder) / split
        self._synthesizers = None if synthesizers is None else frozenset(synthesizers)
        self._parts: dict[Path, np.ndarray] = {}
        self._places: list[tuple[Path, int]] = []  # part and first sample, one an utterance
        self._apart = _indexes(list(apart_from))
        self.left_out = 0
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
            if self._languages is None or record.language in self._languages:
                self._add(record, path, first)
            first += record.samples

    def _add(self, record: Record, path: Path, first: int) -> None:
        if any(index.near(record.texts[lang]) for lang, index in self._apart.items()):
            self.left_out += 1
            return
        self._places.append((path, first))
        self.records.append(record)


def check_disjoint(folder: Path | str) -> None:
    """Raise LeakError if evaluation is in training: a row of text, a sentence that differs by at
    most a word from an evaluation sentence of its language, or a speaker of the test.
    """
    trained, test = Speech(folder, "train").records, Speech(folder, "test").records
    kept = Speech(folder, "dev").records + test
    _refuse("rows of text", {_row(r) for r in trained} & {_row(r) for r in kept})
    _refuse("speakers", {_speaker(r) for r in trained} & {_speaker(r) for r in test})
    for language, index in _indexes(kept).items():
        said = (record.texts[language] for record in trained)
        _refuse(f"sentences in {language}", {text for text in said if index.near(text)})


def _indexes(kept: list[Record]) -> dict[str, NearIndex]:
    """By language; none for a language that no record has."""
    texts = {lang: [r.texts[lang] for r in kept if lang in r.texts] for lang in LANGUAGES}
    return {language: NearIndex(said) for language, said in texts.items() if said}


def _row(record: Record) -> str:
    """The row of sentences or frames that the utterance begins with."""
    return record.ids[0].split("/")[0]


def _speaker(record: Record) -> str:
    """The voice without its speed and pitch, which follow the @."""
    return f"{record.synthesizer} {record.voice.split('@')[0]}"


def _refuse(what: str, shared: set) -> None:
    if shared:
        raise LeakError(f"{len(shared)} {what} of evaluation are in training, as {min(shared)!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the hours of a corpus and look for leaks.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build/speech"))
    folder = parser.parse_args().folder
    for split in SPLITS:
        seconds: dict[tuple[str, str], float] = defaultdict(float)
        for record in Speech(folder, split).records:
            seconds[record.synthesizer, record.language] += record.samples / SAMPLE_RATE_HZ
        for (synthesizer, language), total in sorted(seconds.items()):
            print(f"{split} {synthesizer} {language}: {total / 3_600:.2f} h")
    try:
        check_disjoint(folder)
    except LeakError as error:
        raise SystemExit(f"{error}; read training with Speech(apart_from=evaluation)") from error
    print("evaluation is apart from training")


if __name__ == "__main__":
    main()
