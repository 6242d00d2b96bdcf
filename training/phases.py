"""The three phases of a run.

First the encoder learns letters alone. Then the decoder learns to read what the encoder writes,
which stands still meanwhile. Then both go on together. Trained together from the start, the decoder
first learns to guess its own next word, and has not begun to listen when the time is over.
"""

from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch.compiler import set_stance

from training.batch import Batch
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


@torch.no_grad()
def encoded(model: Nano, batch: Batch) -> Batch:
    """The batch with features for its audio, of an encoder that stands still."""
    eager = set_stance("force_eager") if model.device.type == "cpu" else nullcontext()
    with eager, torch.autocast(model.device.type, torch.bfloat16):  # no second set of programs
        return replace(batch, features=model.features(batch.audio))
