"""When each word of a transcript was spoken, for the documents of translate and captions.

After the final captions, before `pipeline.outputs`. A batch has a segment's sound and no updates:
there the time in which somebody speaks is shared by the lengths of the words. A live session has
no sound any more when a caption is final. There the model has told the times, by where it looked
(:mod:`stages.spans`), or, where nobody knows which of its heads do, the updates tell them by which
each word had been heard.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, groupby, pairwise
from os.path import commonprefix

import numpy as np

from dragoman.models.words import columns, normalized, words
from dragoman.pipeline.onset import FRAME, loud_frames, onset
from dragoman.stages.messages import Caption, Span, Speech

NEAR = 10  # frames of speech: so far from a pause a border is moved to it
PAUSE = 14  # frames: a shorter silence is part of a word, as in front of p, t and k


def spoken(transcript: str, segment: Speech) -> list[Span]:
    """When each word of ``transcript`` is spoken in a whole ``segment``, in samples of the stream.

    Pauses belong to no word. Where espeak-ng says that its words begin is 0.03 s from here on the
    average (tests/pipeline/test_word_times.py).
    """
    said = words(transcript)
    loud = _without_gaps(loud_frames(segment.samples))
    speech = np.cumsum(loud)
    if not said or not len(speech) or not speech[-1]:
        return _shared(said, segment.start, segment.end)
    ends = np.cumsum(list(map(_length, said)))
    borders = ends * speech[-1] // ends[-1]  # in frames of speech
    stops = speech[~loud & (speech > 0) & (speech < speech[-1])]
    borders = _at_pauses(borders, stops) if len(stops) else borders
    first = np.searchsorted(speech, [0, *borders[:-1]], side="right")
    first = np.maximum(first, onset(segment.samples) // FRAME)  # not with a click before the voice
    past = np.searchsorted(speech, borders) + 1
    return [
        (segment.start + int(begin) * FRAME, segment.start + int(end) * FRAME)
        for begin, end in zip(first, np.maximum(first, past), strict=True)
    ]


class Heard:
    """Up to when the words of one session's transcripts were heard, caption after caption."""

    def __init__(self) -> None:
        self._segment = -1
        self._said: list[str] = []
        self._ends: list[int] = []

    def note(self, caption: Caption) -> Caption:
        """``caption``, a final one with the spans of its words: one ends where the first update
        ended since which it and all before it stayed as they are, however they are punctuated.
        Times that the model itself has found (:mod:`stages.spans`) are better, and stay.
        """
        if caption.segment != self._segment:
            self._segment, self._said, self._ends = caption.segment, [], []
        shown = words(caption.transcript.whole)
        said = list(map(normalized, shown))
        kept = len(commonprefix((said, self._said)))
        self._ends = [*self._ends[:kept], *[caption.end] * (len(said) - kept)]
        self._said = said
        if caption.kind == "partial" or caption.transcript.spans:
            return caption
        return timed(caption, self._spans(shown, caption.start))

    def _spans(self, said: list[str], start: int) -> list[Span]:
        """Words that came with one update share the time since the one before."""
        out: list[Span] = []
        for end, places in groupby(range(len(said)), self._ends.__getitem__):
            out += _shared([said[place] for place in places], start, end)
            start = end
        return out


def timed(caption: Caption, spans: Sequence[Span]) -> Caption:
    """``caption`` with the ``spans`` of its transcript's words, in samples of the stream."""
    return replace(caption, transcript=replace(caption.transcript, spans=tuple(spans)))


def _at_pauses(borders: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """``borders``, moved to those of ``stops`` that are near; only one to each, as a word between
    two would have no time.
    """
    away = np.abs(stops[:, None] - borders)
    stop = away.argmin(axis=0)
    own = away.argmin(axis=1)[stop] == np.arange(len(borders))
    moved = np.where(own & (away.min(axis=0) <= NEAR), stops[stop], borders)
    return np.maximum.accumulate(moved)


def _length(word: str) -> int:
    """How long ``word`` takes beside others; what is behind it makes its last sound longer."""
    return max(1, columns(word))


def _shared(said: Sequence[str], start: int, end: int) -> list[Span]:
    shares = list(accumulate(map(_length, said), initial=0))
    return [
        (start + (end - start) * before // shares[-1], start + (end - start) * after // shares[-1])
        for before, after in pairwise(shares)
    ]


def _without_gaps(loud: np.ndarray) -> np.ndarray:
    """``loud`` bool [T], true as well in gaps of less than PAUSE frames."""
    out = loud.copy()
    for before, after in pairwise(np.flatnonzero(loud)):
        if after - before <= PAUSE:
            out[before:after] = True
    return out
