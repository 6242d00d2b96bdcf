"""Cues in step with the shot changes of their film, and what of a cue is not.

Between :mod:`pipeline.shots`, which finds the changes, and the layout and judging of subtitles. A
cue that appears or goes a moment beside a cut makes two jumps where the eye expects one, so what is
near is moved: the beginning to the cut, the end to two frames before it. Source: Netflix's Timed
Text Style Guide, "Timing to Shot Changes", whose 7 and 12 frames these are.

What is unusual: reading time comes first. A cue that would be too short afterwards stays as it is.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from dragoman.pipeline.formats import Cue
from dragoman.pipeline.rules import GRID_MS, Rules

Count = Callable[[Sequence[str]], int]  # how many characters of a cue's lines must be read


def snapped(
    cues: Sequence[Cue], changes_s: Sequence[float], rules: Rules, count: Count
) -> list[Cue]:
    """``cues``, in the order of time, with borders that keep to the shot changes ``changes_s``, in
    seconds, where there is room for it.
    """
    out, near = list(cues), partial(_nearest, [round(s * 1000) for s in changes_s], rules)
    for at, cue in enumerate(out):
        if (change := near(cue.start_ms)) is not None:
            _begin(out, at, _on_grid(change), rules, count)
    for at, cue in enumerate(out):
        if (change := near(cue.end_ms)) is not None:
            _end(out, at, change, rules, count)
    return out


def beside(cue: Cue, changes_s: Sequence[float], rules: Rules) -> Iterator[tuple[str, int, int]]:
    """What of ``cue`` is near a shot change and not in step with it: "start" or "end", how many
    milliseconds after the change (negative: before), and the change.
    """
    near, frame = partial(_nearest, [round(s * 1000) for s in changes_s], rules), rules.frame_ms
    change = near(cue.start_ms)
    if change is not None and abs(cue.start_ms - change) > frame:
        yield "start", cue.start_ms - change, change
    change = near(cue.end_ms)
    if change is not None and not -rules.gap_ms - frame <= cue.end_ms - change <= -rules.gap_ms:
        yield "end", cue.end_ms - change, change


def _nearest(changes: Sequence[int], rules: Rules, time_ms: int) -> int | None:
    """The shot change that is near enough to ``time_ms`` to be seen together with it."""
    at = bisect_left(changes, time_ms)
    found = min(changes[max(0, at - 1) : at + 1], key=lambda c: abs(c - time_ms), default=None)
    return found if found is not None and abs(found - time_ms) <= rules.near_ms else None


def _begin(cues: list[Cue], at: int, start: int, rules: Rules, count: Count) -> None:
    """Lets the cue ``at`` this place begin at ``start``; the one before gives way."""
    new = {at: replace(cues[at], start_ms=start)}
    last = _on_grid(start - rules.gap_ms)
    if at and cues[at - 1].end_ms > last:
        new[at - 1] = replace(cues[at - 1], end_ms=last)
    if all(_may_be(cue, cues[place], rules, count) for place, cue in new.items()):
        for place, cue in new.items():
            cues[place] = cue


def _end(cues: list[Cue], at: int, change: int, rules: Rules, count: Count) -> None:
    """Lets the cue ``at`` this place end before the ``change``, or well after it."""
    following = cues[at + 1].start_ms if at + 1 < len(cues) else None
    for end in (_on_grid(change - rules.gap_ms), _on_grid(change + rules.after_ms)):
        new = replace(cues[at], end_ms=end)
        free = following is None or end + rules.gap_ms <= following
        if free and _may_be(new, cues[at], rules, count):
            cues[at] = new
            return


def _may_be(cue: Cue, old: Cue, rules: Rules, count: Count) -> bool:
    """Whether ``cue`` can be read, as well as the ``old`` one at least, and is not too long."""
    length, before = cue.end_ms - cue.start_ms, old.end_ms - old.start_ms
    least = min(rules.needed_ms(count(cue.lines)), before)
    return least <= length <= max(rules.longest_ms, before)


def _on_grid(ms: int) -> int:
    """The multiple of the grid up to ``ms``: a cue is there when the frame at ``ms`` is shown."""
    return ms // GRID_MS * GRID_MS
