"""The test sets: what is said, in which voice, and what was really said.

A set is the test split of one synthesizer, or of people (see `training.speech_parts`,
`training.people`): sentences and voices that training never had. What a set cannot offer here is
left out by the caller and named in the report.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from training.speech_parts import SAMPLE_RATE_HZ, Speech

# Of a set: what its voices are to a model that was trained on espeak, Pico and Kokoro.
SETS = {
    "kokoro": "Kokoro, styles never trained",
    "espeak": "espeak-ng, voices never trained",
    "pico": "SVOX Pico's French, a synthesizer's language never trained",
    "debian": "flite and festival, synthesizers never trained",
    "people": "people who read prompts",
}
# What the segmenter leaves of the silence around a segment; see `stages.messages`.
BEFORE_SAMPLES, BEHIND_SAMPLES = 300 * SAMPLE_RATE_HZ // 1000, 560 * SAMPLE_RATE_HZ // 1000
FLOOR = 1e-3  # -60 dBFS, a quiet room


@dataclass(frozen=True)
class Clip:
    """One utterance: ``samples`` float32 [S] at 16 kHz, in [-1, 1].

    ``texts`` are by language: what is said in ``language``, and its translations where there are
    any.
    """

    name: str
    samples: np.ndarray
    language: str
    texts: dict[str, str]
    voice: str

    @property
    def text(self) -> str:
        return self.texts[self.language]

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ

    def heard_as(self, samples: np.ndarray) -> "Clip":
        """The same words with other sound."""
        return replace(self, samples=samples)


@dataclass(frozen=True)
class TestSet:
    """The clips of one set: all of them, or the first ``most`` of each language."""

    __test__ = False  # not a test of pytest

    name: str
    speech: Speech
    most: int | None = None

    @classmethod
    def open(
        cls, folder: Path, name: str, most: int | None = None, split: str = "test"
    ) -> "TestSet":
        """A set of `SETS`; it may be empty, where its part of ``folder`` was never made."""
        return cls(name, Speech(folder, split, [name]), most)

    @property
    def languages(self) -> list[str]:
        return sorted({record.language for record in self.speech.records})

    def indices(self, language: str) -> list[int]:
        """Which utterances of the reader are those of ``language``."""
        records = enumerate(self.speech.records)
        return [index for index, record in records if record.language == language][: self.most]

    def clips(self, language: str) -> Iterator[Clip]:
        """Read from disk as they are asked for."""
        for index in self.indices(language):
            example = self.speech[index]
            record = example.record
            samples = example.samples.astype(np.float32) / 2**15
            voice = record.voice.split("@")[0]
            yield Clip(f"{self.name}-{index}", samples, language, record.texts, voice)


def directions(pairs: Sequence[tuple[str, str]], languages: Sequence[str]) -> list[tuple[str, str]]:
    """Those of a model's ``pairs`` (none: any) that begin in one of ``languages``."""
    known = pairs or [(a, b) for a in languages for b in languages if "en" in (a, b) and a != b]
    return [pair for pair in known if pair[0] in languages]


def in_quiet(samples: np.ndarray, seed: int = 1) -> np.ndarray:
    """Samples [S] as the segmenter hands them on: with a quiet room before and behind them."""
    rng = np.random.default_rng(seed)
    room = rng.normal(0, FLOOR, BEFORE_SAMPLES + len(samples) + BEHIND_SAMPLES)
    room[BEFORE_SAMPLES : BEFORE_SAMPLES + len(samples)] += samples
    return room.astype(np.float32)
