"""How sure a model is of each word, from the probabilities of its tokens.

A word is right if all of its tokens are, so its confidence is their product. Tokens and words do
not share borders: punctuation is a token of its own and part of a word, and a token may hold the
end of one word and the beginning of the next. Nor is all that a model writes shown: labels, quotes
and markup are not (:mod:`models.answers`), so words are looked for in what was written.
"""

import math
from collections.abc import Sequence

from dragoman.models.words import pieces_of


def word_confidences(
    words: Sequence[str], pieces: Sequence[str], chances: Sequence[float]
) -> tuple[float, ...]:
    """The confidence of each of ``words``, which stand in this order in the joined ``pieces``, of
    which each has one of ``chances``.

    A word that does not stand there as it is shown, as when markup was taken out of it, is as
    uncertain as the least certain piece. Raises ValueError for another number of chances.
    """
    if len(pieces) != len(chances):
        raise ValueError(f"{len(pieces)} pieces have {len(chances)} chances: give one for each")
    return tuple(
        math.prod(chances[place[0] : place[1] + 1]) if place else min(chances, default=0.0)
        for place in pieces_of(words, pieces)
    )
