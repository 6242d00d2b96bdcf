"""How sure a model is of each word, from the probabilities of its tokens.

A word is right if all of its tokens are, so its confidence is their product. Tokens and words do
not share borders: punctuation is a token of its own and part of a word, and a token may hold the
end of one word and the beginning of the next.
"""

import re
from collections.abc import Iterable

_PARTS = re.compile(r"\s+|\S+")


def word_confidences(pieces: Iterable[str], chances: Iterable[float]) -> tuple[float, ...]:
    """The confidence of each whitespace-separated word of the joined ``pieces``, of which each has
    one of ``chances``.
    """
    words: list[float] = []
    inside = False
    for piece, chance in zip(pieces, chances, strict=True):
        for part in _PARTS.findall(piece):
            if part.isspace():
                inside = False
            elif inside:
                words[-1] *= chance
            else:
                words.append(chance)
                inside = True
    return tuple(words)
