"""When the words of a final text are spoken, from the soft tokens that the model looked at.

Used by :mod:`stages.translate` with what :mod:`stages.looks` found, where a model's folder says
which heads to ask and how late they look (:mod:`models.alignment`). A word's middle is the mean
of what its tokens look at; its length is that of its letters at an ordinary pace, cut where the
next word begins.

Unusual: a transcript's words are spoken in their order, so middles out of order are replaced by
their mean; a translation's words are in the order of another language, and stay where they are.
"""

from collections.abc import Sequence
from itertools import pairwise

from dragoman.models.words import columns, pieces_of
from dragoman.stages.messages import CHUNK_SAMPLES, SAMPLE_RATE_HZ, Span

COLUMN = SAMPLE_RATE_HZ * 75 // 1000  # samples of a letter, at 13 a second
SHORTEST = 2  # letters


def spans(
    words: Sequence[str],
    pieces: Sequence[str],
    looks: Sequence[int],
    heard: Span,
    delay: int,
    in_order: bool,
) -> tuple[Span, ...]:
    """A span in samples of the stream for each of ``words``, which stand in the joined ``pieces``.

    looks: the soft token that each piece looks at; heard: the span of the segment; delay: samples
    by which the model looks late; in_order: the words are spoken in this order.
    """
    middles = middles_of(words, pieces, looks)
    middles = [heard[0] + at - delay for at in (rising(middles) if in_order else middles)]
    halves = [COLUMN * max(SHORTEST, columns(word)) / 2 for word in words]
    begins = [middle - half for middle, half in zip(middles, halves, strict=True)]
    ends = [middle + half for middle, half in zip(middles, halves, strict=True)]
    if in_order:
        for one, other in pairwise(range(len(words))):
            if ends[one] > begins[other]:  # they share the time between their middles
                part = halves[one] / (halves[one] + halves[other])
                border = middles[one] + (middles[other] - middles[one]) * part
                ends[one] = begins[other] = border
    first, last = heard
    return tuple(
        (round(min(max(begin, first), last)), round(min(max(end, first), last)))
        for begin, end in zip(begins, ends, strict=True)
    )


def middles_of(words: Sequence[str], pieces: Sequence[str], looks: Sequence[int]) -> list[float]:
    """The middle of what each word looks at, in samples of the segment; one that does not stand in
    the pieces as it is shown is where the word before it is.
    """
    out: list[float] = []
    for place in pieces_of(words, pieces):
        some = looks[place[0] : place[1] + 1] if place else ()
        before = out[-1] if out else 0.0
        out.append((sum(some) / len(some) + 0.5) * CHUNK_SAMPLES if some else before)
    return out


def rising(values: Sequence[float]) -> list[float]:
    """The rising sequence nearest to ``values`` in squares (pool adjacent violators)."""
    blocks: list[tuple[float, int]] = []  # mean, and of how many
    for value in values:
        blocks.append((value, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (one, m), (other, n) = blocks[-2:]
            blocks[-2:] = [((one * m + other * n) / (m + n), m + n)]
    return [mean for mean, count in blocks for _ in range(count)]
