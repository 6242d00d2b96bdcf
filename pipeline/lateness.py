"""How late the words of a session were: each word's own times, and a summary at the end.

Between a session and its screens and files, caption after caption. Three times belong to a word, in
milliseconds of the sound's clock: how much had been heard when it first stood as it stayed, when it
was shown then, and when it was committed.

Unusual: nothing is modelled. The lag of a caption (`Caption.latency`) is wall-clock time from when
its sound was due, so a session that falls behind is seen to; and at the pace "fast", where nobody
waits, the clock is that of the sound alone.
"""

import statistics
from array import array
from collections.abc import Iterable
from dataclasses import replace
from os.path import commonprefix
from typing import Any

from dragoman.models.words import normalized, words
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption, Text, Timing

MINUTES = (1, 5, 10, 60)  # at which the lag is told
NEAR_MS = 15_000  # before such a minute
TEXTS = ("transcript", "translation")


class _Words:
    """When the words of one text of one segment came: heard and shown, and committed."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._came: list[tuple[int, int]] = []
        self._committed: list[int] = []

    def note(self, text: Text, heard: int, now: int) -> tuple[Timing, ...]:
        """The times of the words of ``text``, which had ``heard`` so much and is shown ``now``."""
        said = [normalized(word) for word in words(text.whole)]
        kept = len(commonprefix((said, self._said)))
        self._came = self._came[:kept] + [(heard, now)] * (len(said) - kept)
        sure = len(words(text.committed))
        self._committed += [now] * (sure - len(self._committed))
        self._said = said
        fixed = self._committed[:sure] + [now] * (len(said) - sure)
        return tuple((*came, at) for came, at in zip(self._came, fixed, strict=True))


class Lateness:
    """Adds times to the final captions of one session, and counts them."""

    def __init__(self) -> None:
        self._segment = -1
        self._words = {name: _Words() for name in TEXTS}
        self._waits = {name: array("q") for name in ("shown", "committed")}
        self._lags: dict[int, array[int]] = {minute: array("q") for minute in MINUTES}

    def note(self, caption: Caption) -> Caption:
        """``caption``, a final one with the times of its words."""
        if caption.segment != self._segment:
            self._segment = caption.segment
            self._words = {name: _Words() for name in TEXTS}
        heard, lag = _ms(caption.end), caption.latency.get("lag_ms", 0)
        self._note_lag(caption)
        times = {
            name: found.note(getattr(caption, name), heard, heard + lag)
            for name, found in self._words.items()
        }
        if caption.kind == "partial":
            return caption
        self._count(times["translation"])
        timed = {name: replace(getattr(caption, name), timing=times[name]) for name in TEXTS}
        return replace(caption, **timed)

    def summary(self) -> dict[str, Any]:
        """In milliseconds: the wait from the sound that a word of the translation rests on until it
        is shown, and until it is committed, and the lag at some minutes; None where nothing was.
        """
        waits = {name: _quantiles(some) for name, some in self._waits.items()}
        return {**waits, "lag": {str(m): _median(some) for m, some in self._lags.items() if some}}

    def _count(self, times: Iterable[Timing]) -> None:
        for heard, shown, committed in times:
            self._waits["shown"].append(shown - heard)
            self._waits["committed"].append(committed - heard)

    def _note_lag(self, caption: Caption) -> None:
        if "lag_ms" not in caption.latency:
            return
        for minute, some in self._lags.items():
            if minute * 60_000 - NEAR_MS < _ms(caption.end) <= minute * 60_000:
                some.append(caption.latency["lag_ms"])


def lags(captions: Iterable[Caption]) -> dict[str, int | None]:
    """By minute: the median lag of the captions shortly before it, in ms; None where there are
    none.
    """
    lateness = Lateness()
    for caption in captions:
        lateness.note(caption)
    found = lateness.summary()["lag"]
    return {str(minute): found.get(str(minute)) for minute in MINUTES}


def told(summary: dict[str, Any]) -> str:
    """A line for people; empty where no word was said."""
    wait = summary["committed"]
    if wait is None:
        return ""
    lag = [f", lag at minute {minute} {_seconds(ms)}" for minute, ms in summary["lag"].items()]
    return (
        f"half of the words were committed within {_seconds(wait['p50'])} of their sound, "
        f"19 of 20 within {_seconds(wait['p95'])}{''.join(lag)}"
    )


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.1f} s"


def _ms(samples: int) -> int:
    return samples * 1000 // SAMPLE_RATE_HZ


def _median(some: Iterable[int]) -> int:
    return round(statistics.median(some))


def _quantiles(some: "array[int]") -> dict[str, int] | None:
    if not some:
        return None
    ordered = sorted(some)
    return {f"p{p}": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in (50, 95)}
