"""Lays captions out as subtitles, and writes them in one of `pipeline.formats`.

Last step of batch, after the final captions. A cue has at most two lines of 42 columns, fewer in
some languages (:mod:`pipeline.lines`), and stays for 1 to 7 seconds, as far as its segment and the
next cue allow. With both languages a cue has the transcript above the translation, one line each.
"""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Literal

from dragoman.models.words import columns
from dragoman.pipeline.formats import FORMATS, Cue
from dragoman.pipeline.lines import MAX_LINES, Passage, least
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption

Which = Literal["transcript", "translation", "both"]

MIN_MS = 1_000
MAX_MS = 7_000
CUE_COST = 0.8  # what one more cue must save, in the units of `lines`


@dataclass(frozen=True)
class _Block:
    """The text of one cue, and its weight in the sharing of time: its columns."""

    lines: tuple[str, ...]

    @property
    def weight(self) -> int:
        return sum(columns(line) for line in self.lines)


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
    spoken = caption.transcript.whole, caption.language
    written = caption.translation.whole, caption.target_language
    return _laid_out(spoken, written, seconds, which)


@lru_cache(maxsize=16_384)  # a live session writes its files again after each caption
def _laid_out(
    spoken: tuple[str, str], written: tuple[str, str], seconds: float, which: Which
) -> list[_Block]:
    transcript, translation = Passage.of(*spoken), Passage.of(*written)
    if which == "both" and transcript and translation:
        return _bilingual(transcript, translation, seconds)
    if which == "both":
        return _monolingual(transcript or translation, seconds)
    return _monolingual(transcript if which == "transcript" else translation, seconds)


def _monolingual(text: Passage, seconds: float) -> list[_Block]:
    """Two lines a cue; as few cues as fit, or one more where that spares a sentence."""
    if not text:
        return []
    reach = text.reach(MAX_LINES)
    count = max(least(reach), _for_time(text, seconds))
    few_cost, few = text.divide(count, reach)
    more_cost, more = text.divide(count + 1, reach)
    parts = few if few_cost <= more_cost + CUE_COST else more
    return [_Block(part.lines) for part in parts if part]


def _bilingual(transcript: Passage, translation: Passage, seconds: float) -> list[_Block]:
    """One line of each language a cue, divided in step: by sentences where they correspond."""
    total = transcript.columns + translation.columns
    blocks: list[_Block] = []
    for pair in _pairs(transcript, translation):
        share = seconds * sum(text.columns for text in pair) / total
        longer = max(pair, key=lambda text: text.columns / text.line_columns)
        count = max(*(least(text.reach(1)) for text in pair), _for_time(longer, share))
        rows = zip(*(text.divide(count, text.reach(1))[1] for text in pair), strict=True)
        blocks += [_Block(tuple(part.line for part in row if part)) for row in rows]
    return [block for block in blocks if block.lines]


def _pairs(transcript: Passage, translation: Passage) -> list[tuple[Passage, Passage]]:
    """Sentences and their translations, the short ones joined; all in one if they do not match."""
    sentences, translated = transcript.sentences(), translation.sentences()
    if len(sentences) != len(translated):
        return [(transcript, translation)]
    pairs: list[tuple[Passage, Passage]] = []
    for above, below in zip(sentences, translated, strict=True):
        if pairs:
            joined = (pairs[-1][0] + above, pairs[-1][1] + below)
            if all(text.fits_line for text in joined):
                pairs[-1] = joined
                continue
        pairs.append((above, below))
    return pairs


def _for_time(text: Passage, seconds: float) -> int:
    """How many cues it takes so that none stays too long, none shorter than half a line."""
    return max(1, min(math.ceil(seconds * 1000 / MAX_MS), text.columns * 2 // text.line_columns))


def _share(blocks: list[_Block], start: int, end: int, limit: int | None) -> list[Cue]:
    """Cues for ``blocks`` from ``start`` on, timed by their columns; all in milliseconds.

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
