"""What all measurements share: the model, the test sets, the store, and how much is asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import dragoman
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.prompt import pairs_of
from evaluation.listening import Listener
from evaluation.sets import SETS, Clip, TestSet, directions
from evaluation.store import Store

if TYPE_CHECKING:
    from dragoman.captioner import Captioner

LANGUAGES = ("en", "es", "fr", "it", "pt")


class Unavailable(RuntimeError):
    """Something that a measurement needs is not here; the message says what and the remedy."""


@dataclass(frozen=True)
class Amounts:
    """How much is measured: clips a language of a set, and minutes."""

    clips: int
    noisy_clips: int
    invented_minutes: float
    talk_minutes: float
    talks: int


FULL = Amounts(clips=60, noisy_clips=30, invented_minutes=30, talk_minutes=10, talks=8)
QUICK = Amounts(clips=12, noisy_clips=6, invented_minutes=4, talk_minutes=2, talks=2)


@dataclass(frozen=True)
class Bench:
    """``model`` as the command line names it, ``speech`` the folder of the test sets, ``whisper``
    the peer's, ``build`` where talks are kept.
    """

    model: str
    store: Store
    speech: Path
    whisper: Path
    build: Path
    amounts: Amounts = FULL
    device: str = "cpu"

    @cached_property
    def listener(self) -> Listener:
        """The model on the fast path, loaded when it is first asked for."""
        return Listener.load(self.model, self.device)

    @contextmanager
    def captioner(self) -> "Iterator[Captioner]":
        """The model behind the live pipeline, in this process."""
        spec = dragoman.ModelSpec(self.model, self.device)
        with dragoman.Captioner(spec) as captioner:
            yield captioner

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """The directions that the model is made for, of those that are measured."""
        return directions(pairs_of(Checkpoint.open(self.model).config), LANGUAGES)

    @cached_property
    def spoken(self) -> list[tuple[str, str]]:
        """One direction for each language that is spoken."""
        return list({pair[0]: pair for pair in reversed(self.pairs)}.values())[::-1]

    def open(self, name: str, most: int | None = None) -> TestSet:
        """A test set with so many clips a language, by default as many as are asked for."""
        return TestSet.open(self.speech, name, most or self.amounts.clips)

    def nearest(self) -> TestSet:
        """The set most like people that was made here, for what is measured on one set only.

        Raises Unavailable where there is none.
        """
        for name in SETS:
            found = self.open(name, self.amounts.noisy_clips)
            if found.languages:
                return found
        raise Unavailable(
            f"{self.speech} has no test speech: make it with python -m training.speech --split test"
        )

    def clips(self, found: TestSet, language: str) -> list[Clip]:
        return list(found.clips(language))
