"""How screens tell what to rely on: committed words, words that the model is unsure of, the tail.

The terminal and the page lay out the same parts, each in its own way.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from dragoman.models.words import words
from dragoman.stages.messages import Text

UNSURE = 0.5  # a word is dimmed that is more likely wrong than right

Kind = Literal["sure", "unsure", "tail"]


@dataclass(frozen=True)
class Part:
    """A stretch of a text, spaces included."""

    text: str
    kind: Kind


def parts(text: Text) -> list[Part]:
    """What stands, by the model's confidence in each word, and then the tail; joined they are the
    whole text. Words of unknown confidence are sure.
    """
    found = [
        Part("".join(word for word, _ in group), kind)
        for kind, group in groupby(_words(text), _kind)
    ]
    return [*found, Part(text.tail, "tail")] if text.tail else found


def _words(text: Text) -> Iterator[tuple[str, bool]]:
    """The committed words with the spaces before them, and whether each is unsure."""
    known = iter(text.confidences)
    at = 0
    for word in words(text.committed):
        begin, at = at, text.committed.index(word, at) + len(word)
        yield text.committed[begin:at], next(known, 1.0) < UNSURE
    if at < len(text.committed):
        yield text.committed[at:], False


def _kind(word: tuple[str, bool]) -> Kind:
    return "unsure" if word[1] else "sure"
