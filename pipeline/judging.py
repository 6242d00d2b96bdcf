"""Judges subtitles by :mod:`pipeline.rules`, and mends what can be mended.

For `dragoman check`, of files from anywhere; :mod:`pipeline.subtitle_files` reads them. What is
mended are times and line breaks: words are never changed, so text that is spoken too fast, or a
word that is wider than a line, stays a fault.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from dragoman.models import languages
from dragoman.models.words import columns, one_line, spaced_words
from dragoman.pipeline.formats import Cue
from dragoman.pipeline.lines import Passage
from dragoman.pipeline.rules import LINE_CHARS, Rules, characters, line_columns
from dragoman.pipeline.snapping import beside, snapped
from dragoman.pipeline.subtitles import Block, divided, timed, up_to_grid

DIALOGUE = ("-", "–", "—")  # a line of each speaker: they are not joined


@dataclass(frozen=True)
class Fault:
    """What is wrong with a cue (counted from 1; 0 is the file): ``got`` is not what is ``allowed``.

    ``what`` is one of encoding, header, empty, times, order, overlap, gap, short, long, lines,
    width, speed and shot.
    """

    cue: int
    what: str
    got: str
    allowed: str


@dataclass(frozen=True)
class Standard:
    """The rules for a file, and the languages that it is in: two where each cue has a line of both;
    ``changes_s`` are the shot changes of its film, in seconds, where there is one to judge by.
    Raises LanguageError for a code that is not known.
    """

    rules: Rules = Rules()
    codes: tuple[str, ...] = ()
    changes_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for code in self.codes:
            languages.find(code)

    @property
    def bilingual(self) -> bool:
        return len(self.codes) == 2

    def width(self, lines: Sequence[str], at: int) -> int:
        """How wide the line ``at`` this place among ``lines`` may be."""
        widths = [line_columns(code) for code in self.codes] or [LINE_CHARS]
        return widths[at] if len(lines) == len(widths) else max(widths)

    def characters(self, lines: Sequence[str]) -> int:
        return characters(lines, self.bilingual and len(lines) == 2)


def faults(cues: Sequence[Cue], standard: Standard) -> list[Fault]:
    """All that is wrong with ``cues``, in the order in which the file has them."""
    out = [fault for at, cue in enumerate(cues, 1) for fault in _alone(at, cue, standard)]
    for at, (before, cue) in enumerate(pairwise(cues), 2):
        out += _between(at, before, cue, standard.rules)
    for at, cue in enumerate(cues, 1):
        out += _beside_shots(at, cue, standard)
    return sorted(out, key=lambda fault: fault.cue)


def _alone(at: int, cue: Cue, standard: Standard) -> Iterator[Fault]:
    rules, length = standard.rules, cue.end_ms - cue.start_ms
    if not any(line.strip() for line in cue.lines):
        yield Fault(at, "empty", "no text", "some text")
        return
    if len(cue.lines) > rules.lines:
        yield Fault(at, "lines", f"{len(cue.lines)} lines", f"at most {rules.lines}")
    for line, text in enumerate(cue.lines):
        if columns(text) > (most := standard.width(cue.lines, line)):
            yield Fault(at, "width", f"{columns(text)} columns in line {line + 1}", f"{most}")
    if length <= 0:
        yield Fault(at, "times", f"an end {_seconds(-length)} before the start", "one after it")
        return
    if length < rules.shortest_ms:
        yield Fault(at, "short", _seconds(length), f"at least {_seconds(rules.shortest_ms)}")
    if length > rules.longest_ms:
        yield Fault(at, "long", _seconds(length), f"at most {_seconds(rules.longest_ms)}")
    speed = standard.characters(cue.lines) * 1000 / length
    if speed > rules.chars_per_second:
        most = f"at most {rules.chars_per_second:g}"
        yield Fault(at, "speed", f"{speed:.1f} characters a second", most)


def _between(at: int, before: Cue, cue: Cue, rules: Rules) -> Iterator[Fault]:
    gap = cue.start_ms - before.end_ms
    if cue.start_ms < before.start_ms:
        got = f"a start {_seconds(before.start_ms - cue.start_ms)} before that of cue {at - 1}"
        yield Fault(at, "order", got, "the order of time")
    elif gap < 0:
        yield Fault(at, "overlap", f"{_seconds(-gap)} together with cue {at - 1}", "none")
    elif gap < rules.gap_ms:
        got = f"{_seconds(gap)} after cue {at - 1}"
        yield Fault(at, "gap", got, f"at least {_seconds(rules.gap_ms)}")


def _beside_shots(at: int, cue: Cue, standard: Standard) -> Iterator[Fault]:
    rules = standard.rules
    for border, off, change in beside(cue, standard.changes_s, rules):
        place = f"{_seconds(abs(off))} {'after' if off >= 0 else 'before'}"
        got = f"{'a' if border == 'start' else 'an'} {border} {place} the shot change at"
        meant = "at it" if border == "start" else f"{rules.gap_frames} frames before it"
        allowed = f"{meant}, or more than {rules.near_frames} frames from it"
        yield Fault(at, "shot", f"{got} {_seconds(change)}", allowed)


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.3f} s"


def mended(cues: Sequence[Cue], standard: Standard) -> list[tuple[int, Cue]]:
    """The cues that keep to the rules as far as they can, each with the index of the one it was.

    Empty cues are left out, the others put in order. Lines that are too many or too wide are broken
    anew, into several cues where they are too much for one; times give way to the next cue, and to
    shot changes.
    """
    kept = [(at, cue) for at, cue in enumerate(cues) if any(line.strip() for line in cue.lines)]
    kept = _stacked(sorted(kept, key=lambda pair: pair[1].start_ms), standard.rules)
    out: list[tuple[int, Cue]] = []
    for place, (at, cue) in enumerate(kept):
        limit = kept[place + 1][1].start_ms if place + 1 < len(kept) else None
        start = max(cue.start_ms, out[-1][1].end_ms + standard.rules.gap_ms if out else 0)
        out += [(at, new) for new in _retimed(replace(cue, start_ms=start), limit, standard)]
    new = [cue for _, cue in out]
    new = snapped(new, standard.changes_s, standard.rules, standard.characters)
    return [(at, cue) for (at, _), cue in zip(out, new, strict=True)]


def _stacked(cues: Iterable[tuple[int, Cue]], rules: Rules) -> list[tuple[int, Cue]]:
    """Cues that begin too near to each other become one, if their lines fit."""
    out: list[tuple[int, Cue]] = []
    for at, cue in cues:
        if out:
            index, before = out[-1]
            near = cue.start_ms - before.start_ms < rules.shortest_ms + rules.gap_ms
            if near and len(before.lines) + len(cue.lines) <= rules.lines:
                end = max(before.end_ms, cue.end_ms)
                out[-1] = index, Cue(before.start_ms, end, before.lines + cue.lines)
                continue
        out.append((at, cue))
    return out


def _retimed(cue: Cue, limit: int | None, standard: Standard) -> list[Cue]:
    """``cue`` itself where nothing is wrong with it."""
    rules, length = standard.rules, cue.end_ms - cue.start_ms
    ends = limit is None or cue.end_ms + rules.gap_ms <= limit
    texts = _rebroken(cue, standard)
    fits = rules.needed_ms(standard.characters(cue.lines)) <= length <= rules.longest_ms
    if ends and fits and texts == [cue.lines]:
        return [cue]
    blocks = [Block(text, standard.characters(text)) for text in texts]
    return list(timed(blocks, up_to_grid(cue.start_ms), cue.end_ms, limit, rules))


def _rebroken(cue: Cue, standard: Standard) -> list[tuple[str, ...]]:
    """The lines of ``cue``, or, where they break the rules, of the cues that take its place."""
    lines = cue.lines
    wrong = len(lines) > standard.rules.lines or any(
        columns(line) > standard.width(lines, at) for at, line in enumerate(lines)
    )
    if not wrong or standard.bilingual or any(line.startswith(DIALOGUE) for line in lines):
        return [lines]
    text = _passage(one_line(lines), standard.codes)
    length = cue.end_ms - cue.start_ms
    return [block.lines for block in divided(text, length, None, standard.rules)]


def _passage(text: str, codes: Sequence[str]) -> Passage:
    """``text`` in the first of the languages ``codes``; without one it runs as most letters do."""
    if codes:
        return Passage.of(text, codes[0])
    ways = Counter(map(unicodedata.bidirectional, text))
    return Passage(spaced_words(text), right_to_left=ways["R"] + ways["AL"] > ways["L"])
