"""Finds training sentences that are too near to an evaluation sentence.

Place: `training.text.texts` asks before it gives a sentence to training. Two sentences of one
language are near when they are equal or one word is inserted, left out or replaced; capitals and
punctuation do not count.

Unusual: no pair is compared. Two sentences differ by a replaced word exactly if they agree once the
word at the same place is masked, and by an inserted word if one with a word left out is the other,
so a few set look-ups answer for all evaluation sentences.
"""

import re
from collections.abc import Iterable

_MARKS = re.compile(r"[^\w\s'-]")


def words(text: str) -> tuple[str, ...]:
    """Lower-case words without punctuation."""
    return tuple(_MARKS.sub(" ", text.casefold()).split())


class NearIndex:
    """The evaluation sentences of one language."""

    def __init__(self, sentences: Iterable[str]):
        self._whole: set[tuple[str, ...]] = set()
        self._shorter: set[tuple[str, ...]] = set()
        self._masked: set[tuple[int, tuple[str, ...]]] = set()
        for said in map(words, sentences):
            self._whole.add(said)
            for place in range(len(said)):
                rest = said[:place] + said[place + 1 :]
                self._shorter.add(rest)
                self._masked.add((place, rest))

    def near(self, sentence: str) -> bool:
        said = words(sentence)
        if said in self._whole or said in self._shorter:
            return True
        for place in range(len(said)):
            rest = said[:place] + said[place + 1 :]
            if rest in self._whole or (place, rest) in self._masked:
                return True
        return False
