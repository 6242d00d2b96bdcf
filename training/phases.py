"""The three phases of a run, and the second one's data.

First the encoder learns letters alone. Then the decoder learns to read what the encoder writes: the
encoder stands still, so on a CPU its output is computed once and a step takes half the time. Then
both go on together. Trained together from the start, the decoder first learns to guess its own next
word, and has not begun to listen when the time is over.
"""

import random
from collections.abc import Iterator, Sequence
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


Pack = tuple[list[Spoken], list[Tensor]]  # utterances without samples, and their features


class Encoded:
    """An endless stream of batches of utterances that the encoder has heard already.

    packs: utterances of about the same length, which come together again.
    """

    def __init__(self, packs: Sequence[Pack]) -> None:
        self._packs = packs

    def __len__(self) -> int:
        return sum(len(spoken) for spoken, _ in self._packs)

    def batches(self, batcher: Batcher, rng: random.Random) -> Iterator[Batch]:
        """Each time with other cuts."""
        while True:
            spoken, features = rng.choice(self._packs)
            yield batcher.encoded(spoken, [one.float() for one in features], rng)


@torch.no_grad()
def encode(model: Nano, spoken: Sequence[Spoken]) -> Pack:
    """Features float16 [K, D] of each utterance on the CPU, one chunk of silence included."""
    counts = [-(-len(one.samples) // CHUNK_SAMPLES) + 1 for one in spoken]
    audio = torch.zeros(len(spoken), max(counts) * CHUNK_SAMPLES)
    for row, one in zip(audio, spoken, strict=True):
        row[: len(one.samples)] = one.samples
    with torch.autocast(model.device.type, torch.bfloat16):
        features = model.features(audio.to(model.device)).half().cpu()
    kept = [row[:count].clone() for row, count in zip(features, counts, strict=True)]
    return [replace(one, samples=torch.empty(0)) for one in spoken], kept


@torch.no_grad()
def encoded(model: Nano, batch: Batch) -> Batch:
    """The batch with features for its audio, of an encoder that stands still."""
    with torch.autocast(model.device.type, torch.bfloat16):
        return replace(batch, features=model.features(batch.audio))
