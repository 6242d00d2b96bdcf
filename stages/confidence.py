"""How sure a model is of each word, from the probabilities of its tokens.

A word is right if all of its tokens are, so its confidence is their product. Tokens and words do
not share borders: punctuation is a token of its own and part of a word, and a token may hold the
end of one word and the beginning of the next. Nor is all that a model writes shown: labels, quotes
and markup are not (:mod:`models.answers`), so words are looked for in what was written.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate


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
    written, ends = "".join(pieces), list(accumulate(map(len, pieces)))
    confidences: list[float] = []
    at = 0
    for word in words:
        found = written.find(word, at)
        if found < 0:
            confidences.append(min(chances, default=0.0))
            continue
        at = found + len(word)
        first, last = bisect_right(ends, found), bisect_right(ends, at - 1)
        confidences.append(math.prod(chances[first : last + 1]))
    return tuple(confidences)
