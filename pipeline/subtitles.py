"""Lays captions out as subtitles, and writes them in one of `pipeline.formats`.

Last step of batch, after the final captions. A cue has at most two lines of 42 characters and
stays for 1 to 7 seconds, as far as its segment and the next cue allow. With both languages a cue
has the transcript above the translation, one line each.

What is unusual: a text is divided by one small dynamic program, which weighs sentence and clause
ends against even lengths; it serves for the cues of a segment and for the lines of a cue alike.
"""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Literal

from dragoman.pipeline.formats import FORMATS, Cue
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption

Which = Literal["transcript", "translation", "both"]

LINE_CHARS = 42
MAX_LINES = 2
MIN_MS = 1_000
MAX_MS = 7_000

SENTENCE_ENDS = ".?!…"
CLAUSE_ENDS = ",;:–—"
CLOSING_MARKS = "\"'»”’)]"
# Costs of a break, in units of one part being empty or twice as long as it should be.
CLAUSE_COST, WORD_COST, EMPTY_COST = 0.3, 1.0, 4.0
CUE_COST = 0.8  # what one more cue must save

Words = Sequence[str]


@dataclass(frozen=True)
class _Block:
    """The text of one cue, and its weight in the sharing of time: its characters."""

    lines: tuple[str, ...]

    @property
    def weight(self) -> int:
        return sum(len(line) for line in self.lines)


def cues(captions: Iterable[Caption], which: Which = "transcript") -> list[Cue]:
    """The cues of the final ones among ``captions``, in order of time; empty texts yield none."""
    final = sorted((c for c in captions if c.kind == "final"), key=lambda c: c.start)
    shown = [(caption, blocks) for caption in final if (blocks := _blocks(caption, which))]
    limits = [_ms(caption.start) for caption, _ in shown[1:]]
    out: list[Cue] = []
    for (caption, blocks), limit in zip_longest(shown, limits):
        start = max(_ms(caption.start), out[-1].end_ms if out else 0)
        out += _share(blocks, start, _ms(caption.end), limit)
    return out


def write(cues: Iterable[Cue], path: str | Path) -> None:
    """Writes a subtitle file, whole or not at all; raises ValueError for an unknown suffix."""
    path = Path(path)
    name = path.suffix.lower().removeprefix(".")
    if name not in FORMATS:
        choice = ", ".join(f".{known}" for known in FORMATS)
        raise ValueError(f"{path}: no subtitle format {path.suffix!r}: use one of {choice}")
    write_whole(path, FORMATS[name](list(cues)))


def write_whole(path: Path, text: str) -> None:
    """Writes beside ``path`` and renames, so that no reader ever sees half a file."""
    written = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        written.write_text(text, encoding="utf-8", newline="\n")
        os.replace(written, path)
    finally:
        written.unlink(missing_ok=True)


def _ms(samples: int) -> int:
    return samples * 1000 // SAMPLE_RATE_HZ


def _blocks(caption: Caption, which: Which) -> list[_Block]:
    """The texts of a caption's cues."""
    seconds = (caption.end - caption.start) / SAMPLE_RATE_HZ
    transcript = caption.transcript.whole.split()
    translation = caption.translation.whole.split()
    if which == "both" and transcript and translation:
        return _bilingual(transcript, translation, seconds)
    if which == "both":
        return _monolingual(transcript or translation, seconds)
    return _monolingual(transcript if which == "transcript" else translation, seconds)


def _monolingual(words: Words, seconds: float) -> list[_Block]:
    """Two lines a cue; as few cues as fit, or one more where that spares a sentence."""
    if not words:
        return []
    count = max(_least(words, _fits_cue), _for_time(words, seconds))
    few_cost, few = _divide(words, count, _fits_cue)
    more_cost, more = _divide(words, count + 1, _fits_cue)
    parts = few if few_cost <= more_cost + CUE_COST else more
    return [_Block(_lines(part)) for part in parts if part]


def _bilingual(transcript: Words, translation: Words, seconds: float) -> list[_Block]:
    """One line of each language a cue, divided in step: by sentences where they correspond."""
    total = _chars(transcript) + _chars(translation)
    blocks: list[_Block] = []
    for pair in _pairs(transcript, translation):
        share = seconds * sum(map(_chars, pair)) / total
        longer = max(pair, key=_chars)
        count = max(*(_least(words, _fits_line) for words in pair), _for_time(longer, share))
        rows = zip(*(_divide(words, count, _fits_line)[1] for words in pair), strict=True)
        blocks += [_Block(tuple(" ".join(part) for part in row if part)) for row in rows]
    return [block for block in blocks if block.lines]


def _pairs(transcript: Words, translation: Words) -> list[tuple[Words, Words]]:
    """Sentences and their translations, the short ones joined; all in one if they do not match."""
    sentences, translated = _sentences(transcript), _sentences(translation)
    if len(sentences) != len(translated):
        return [(transcript, translation)]
    pairs: list[tuple[Words, Words]] = []
    for above, below in zip(sentences, translated, strict=True):
        if pairs:
            joined = ([*pairs[-1][0], *above], [*pairs[-1][1], *below])
            if all(map(_fits_line, joined)):
                pairs[-1] = joined
                continue
        pairs.append((above, below))
    return pairs


def _sentences(words: Words) -> list[list[str]]:
    out: list[list[str]] = [[]]
    for word in words:
        out[-1].append(word)
        if _break_cost(word) == 0:
            out.append([])
    return [sentence for sentence in out if sentence]


def _share(blocks: list[_Block], start: int, end: int, limit: int | None) -> list[Cue]:
    """Cues for ``blocks`` from ``start`` on, timed by their characters; all in milliseconds.

    Cues that would be too short are given time after ``end``, but never past ``limit``.
    """
    end = max(end, start + len(blocks) * MIN_MS)
    if limit is not None:
        end = min(end, limit)
    end = max(end, start + len(blocks))  # captions that overlap still get cues that do not
    least = min(MIN_MS, (end - start) // len(blocks))
    total = sum(block.weight for block in blocks)
    borders, weight = [start], 0
    for block in blocks:
        weight += block.weight
        proportional = start + (end - start) * weight // total
        borders.append(max(proportional, borders[-1] + least))
    borders[-1] = end
    for at in range(len(blocks) - 1, 0, -1):
        borders[at] = min(borders[at], borders[at + 1] - least)
    return [
        Cue(begin, min(stop, begin + MAX_MS), block.lines)
        for block, (begin, stop) in zip(blocks, pairwise(borders), strict=True)
    ]


def _chars(words: Words) -> int:
    return sum(map(len, words)) + len(words) - 1 if words else 0


def _fits_line(words: Words) -> bool:
    """A word is never torn, so a single one always fits."""
    return len(words) <= 1 or _chars(words) <= LINE_CHARS


def _fits_cue(words: Words) -> bool:
    return _least(words, _fits_line) <= MAX_LINES


def _least(words: Words, fits: Callable[[Words], bool]) -> int:
    """How many parts that fit ``words`` need; 1 when there are none."""
    count, first = 1, 0
    for at in range(len(words)):
        if not fits(words[first : at + 1]):
            count, first = count + 1, at
    return count


def _for_time(words: Words, seconds: float) -> int:
    """How many cues it takes so that none stays too long, none shorter than half a line."""
    return max(1, min(math.ceil(seconds * 1000 / MAX_MS), _chars(words) * 2 // LINE_CHARS))


def _lines(words: Words) -> tuple[str, ...]:
    count = _least(words, _fits_line)
    return tuple(" ".join(part) for part in _divide(words, count, _fits_line)[1] if part)


def _break_cost(word: str) -> float:
    """What it costs to end a part with ``word``."""
    last = word.rstrip(CLOSING_MARKS)[-1:]
    if last and last in SENTENCE_ENDS:
        return 0.0
    return CLAUSE_COST if last and last in CLAUSE_ENDS else WORD_COST


def _divide(words: Words, count: int, fits: Callable[[Words], bool]) -> tuple[float, list[Words]]:
    """The cheapest division of ``words`` into ``count`` parts that fit, and its cost.

    ``count`` is at least what ``_least`` says; parts are empty where there are too few words.
    """
    ideal = max(1.0, _chars(words) / count)
    # best[j]: cost and borders of the first j words in as many parts as rounds have passed.
    best: list[tuple[float, list[int]]] = [(0.0, [0])] + [(math.inf, [])] * len(words)
    for _ in range(count):
        following = [(cost + EMPTY_COST, [*borders, at]) for at, (cost, borders) in enumerate(best)]
        for end in range(1, len(words) + 1):
            at_end = 0.0 if end == len(words) else _break_cost(words[end - 1])
            for first in range(end - 1, -1, -1):
                part = words[first:end]
                if not fits(part):
                    break
                cost = best[first][0] + at_end + (_chars(part) / ideal - 1) ** 2
                if cost < following[end][0]:
                    following[end] = (cost, [*best[first][1], end])
        best = following
    cost, borders = best[-1]
    return cost, [words[first:end] for first, end in pairwise(borders)]
