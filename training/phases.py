"""The three phases of a run, and the second one's data.

First the encoder learns letters alone. Then the decoder learns to read what the encoder writes: the
encoder stands still, so its output is computed once and a step takes half the time. Then both go on
together. Trained together from the start, the decoder first learns to guess its own next word, and
has not begun to listen when the time is over.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.batch import CHUNK_SAMPLES, Batch, Batcher, Spoken
from training.model import Nano

HEARING, READING, TOGETHER = "hearing", "reading", "together"


@dataclass(frozen=True)
class Phase:
    """A phase lasts until ``until`` of the time is used; its learning rate goes from ``first`` to
    ``last`` of the peak.
    """

    name: str
    until: float
    first: float
    last: float


def phases(hearing: float, reading: float) -> tuple[Phase, ...]:
    """The phases of a run whose first ends at ``hearing`` and second at ``reading`` of the time."""
    return (
        Phase(HEARING, hearing, 1.0, 0.7),
        Phase(READING, reading, 1.2, 0.5),
        Phase(TOGETHER, 1.0, 0.6, 0.005),
    )


def current(plan: tuple[Phase, ...], share: float) -> tuple[Phase, float]:
    """The phase at ``share`` of the time, and how much of it is over."""
    begun = 0.0
    for phase in plan:
        if share < phase.until or phase is plan[-1]:
            return phase, min(1.0, (share - begun) / (phase.until - begun))
        begun = phase.until
    raise ValueError("a plan has at least one phase")


class Encoded:
    """An endless stream of batches of ``spoken``, which ``model`` encodes at once."""

    def __init__(self, model: Nano, spoken: list[Spoken], size: int) -> None:
        self._spoken = sorted(spoken, key=lambda one: len(one.samples))
        self._size = size
        self._features: list[Tensor] = []
        for start in range(0, len(self._spoken), size):
            self._features += _encode(model, self._spoken[start : start + size])
        self._spoken = [replace(one, samples=torch.empty(0)) for one in self._spoken]

    def __len__(self) -> int:
        return len(self._spoken)

    def batches(self, batcher: Batcher, rng: random.Random) -> Iterator[Batch]:
        """Batches of neighbours in length, so that little is padding."""
        while True:
            start = rng.randrange(max(1, len(self) - 4 * self._size))
            near = range(start, min(len(self), start + 4 * self._size))
            chosen = rng.sample(near, min(self._size, len(near)))
            spoken = [self._spoken[i] for i in chosen]
            yield batcher.encoded(spoken, [self._features[i].float() for i in chosen], rng)


def _encode(model: Nano, spoken: list[Spoken]) -> list[Tensor]:
    """Features float16 [K, D] of each utterance, one chunk of silence included."""
    counts = [-(-len(one.samples) // CHUNK_SAMPLES) + 1 for one in spoken]
    audio = torch.zeros(len(spoken), max(counts) * CHUNK_SAMPLES)
    for row, one in zip(audio, spoken, strict=True):
        row[: len(one.samples)] = one.samples
    with torch.autocast("cpu", torch.bfloat16):
        features = model.features(audio)
    return [row[:count].half().clone() for row, count in zip(features, counts, strict=True)]
