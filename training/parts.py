"""Stored speech as training reads it: folders of parts, of which more may appear while it runs.

A part is `SPLIT/SYNTHESIZER/NAME.npy`, int16 [S] at 16 kHz, all its utterances end to end, and
`NAME.jsonl`, a line an utterance, written last: where that is, the part is whole (`training.speech`
makes them). Samples stay on disk until asked for.
"""

import json
import random
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SAMPLE_RATE_HZ = 16_000


@dataclass(frozen=True)
class Example:
    """One utterance. samples: int16 [S]; texts: the same said in each language, empty for speech
    that nobody is to write down; word_ends_samples: one for each word of ``texts[language]``.
    """

    samples: Tensor
    language: str
    texts: dict[str, str]
    word_ends_samples: list[int]
    synthesizer: str
    voice: str

    @property
    def words(self) -> list[str]:
        """The words that are spoken."""
        return self.texts.get(self.language, "").split()


@dataclass
class Parts:
    """The utterances below ``folder``/``split``, in the order in which their parts were found.

    languages, synthesizers: only these, or None for all.
    """

    folder: Path
    split: str
    languages: Collection[str] | None = None
    synthesizers: Collection[str] | None = None
    _files: list[Path] = field(default_factory=list)
    _known: set[Path] = field(default_factory=set)
    _rows: list[tuple[int, int, dict]] = field(default_factory=list)
    _by_language: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.refresh()

    def refresh(self) -> int:
        """Takes in the parts that are new; gives how many utterances there are now."""
        for path in sorted((self.folder / self.split).rglob("*.jsonl")):
            if path not in self._known and path.with_suffix(".npy").is_file():
                self._known.add(path)
                self._add(path)
        return len(self)

    def _add(self, path: Path) -> None:
        self._files.append(path.with_suffix(".npy"))
        offset = 0
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if self._wanted(row):
                self._by_language.setdefault(row["language"], []).append(len(self._rows))
                self._rows.append((len(self._files) - 1, offset, row))
            offset += row["samples"]

    def _wanted(self, row: dict) -> bool:
        return (self.languages is None or row["language"] in self.languages) and (
            self.synthesizers is None or row["synthesizer"] in self.synthesizers
        )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Example:
        file, offset, row = self._rows[index]
        stored = np.load(self._files[file], mmap_mode="r")
        samples = torch.from_numpy(stored[offset : offset + row["samples"]].copy())
        return Example(
            samples,
            row["language"],
            row["texts"],
            row["word_ends_samples"],
            row["synthesizer"],
            row["voice"],
        )

    def draw(self, rng: random.Random) -> Example:
        """A random utterance; every language is as likely."""
        language = rng.choice(sorted(self._by_language))
        return self[rng.choice(self._by_language[language])]

    @property
    def seconds(self) -> float:
        """How much speech there is."""
        return sum(row["samples"] for _, _, row in self._rows) / SAMPLE_RATE_HZ

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """Synthesizer and language of each utterance."""
        return [(row["synthesizer"], row["language"]) for _, _, row in self._rows]
