"""Lays captions out as subtitles, and writes them in one of `pipeline.formats`.

Last step of batch, after the final captions. Cues keep to :mod:`pipeline.rules` as far as the
speech allows: a text is never shortened, and a cue never runs into the next or comes before its
sound, unless a shot change is near. With both languages a cue has one line of each.

What is unusual: a caption that cannot be read before the next begins is shown together with it. All
times are multiples of 10 ms, the finest that ASS files have, so that every format says the same.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Literal

from dragoman.models.words import columns, one_line
from dragoman.pipeline.formats import FORMATS, Cue, tag
from dragoman.pipeline.lines import Passage, least
from dragoman.pipeline.rules import GRID_MS, Rules, characters
from dragoman.pipeline.snapping import snapped
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption

Which = Literal["transcript", "translation", "transcript-above", "translation-above"]

ONE_LANGUAGE: tuple[Which, ...] = ("transcript", "translation")
TEXTS: tuple[Which, ...] = (*ONE_LANGUAGE, "transcript-above")  # unless others are asked for

RULES = Rules()
CUE_COST = 0.5  # what one more cue must save, in the units of `lines`
CUE_EVENNESS = 0.5  # lines should be even, but a cue rather holds a whole sentence
MORE_CUES = 3  # than are needed, at most, to spare sentences


@dataclass(frozen=True)
class _Span:
    """A stretch of speech, in milliseconds, and its texts, each with the code of its language."""

    start: int
    end: int
    spoken: tuple[str, str]
    written: tuple[str, str]

    @classmethod
    def of(cls, caption: Caption) -> "_Span":
        spoken = caption.transcript.whole, caption.language
        written = caption.translation.whole, caption.target_language
        return cls(_ms(caption.start), _ms(caption.end), spoken, written)

    def __add__(self, other: "_Span") -> "_Span":
        spoken = one_line((self.spoken[0], other.spoken[0])), self.spoken[1]
        written = one_line((self.written[0], other.written[0])), self.written[1]
        return _Span(self.start, max(self.end, other.end), spoken, written)

    def shown(self, which: Which) -> list[Passage]:
        """The texts that are to be seen, from top to bottom."""
        texts = [self.spoken, self.written]
        chosen = {
            "transcript": texts[:1],
            "translation": texts[1:],
            "transcript-above": texts,
            "translation-above": texts[::-1],
        }
        passages = [Passage.of(*text) for text in chosen[which]]
        return [passage for passage in passages if passage]


@dataclass(frozen=True)
class Block:
    """The text of one cue: its lines, and how many characters of them must be read."""

    lines: tuple[str, ...]
    characters: int

    @property
    def weight(self) -> int:
        """Its part in the sharing of time: its columns, as all that was said takes time."""
        return sum(columns(line) for line in self.lines)


def cues(
    captions: Iterable[Caption],
    which: Which = "transcript",
    rules: Rules = RULES,
    changes_s: Sequence[float] = (),
) -> list[Cue]:
    """The cues of the final ones among ``captions``, in order of time, in step with the shot
    changes ``changes_s`` of the film, in seconds; empty texts yield none.
    """
    final = sorted((c for c in captions if c.kind == "final"), key=lambda c: c.start)
    spans = [span for caption in final if (span := _Span.of(caption)).shown(which)]
    spans = _joined(spans, which, rules)
    out: list[Cue] = []
    for span, following in zip_longest(spans, spans[1:]):
        start = max(span.start, out[-1].end_ms + _gap(rules) if out else 0)
        limit = following.start if following else None
        room = None if limit is None else max(0, limit - start)
        blocks = _blocks(span.spoken, span.written, span.end - span.start, room, which, rules)
        language = _language(span, which)
        laid = timed(blocks, start, span.end, limit, rules)
        out += [replace(cue, language=language) for cue in laid]
    bilingual = which not in ONE_LANGUAGE
    return snapped(out, changes_s, rules, partial(characters, bilingual=bilingual))


def _language(span: _Span, which: Which) -> str:
    """The tag of what is shown of ``span``."""
    codes = {"transcript": [span.spoken[1]], "translation": [span.written[1]]}
    return tag(codes.get(which, [span.spoken[1], span.written[1]]))


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
    """On the grid, of the milliseconds that the document says."""
    return _on_grid(round(round(samples / SAMPLE_RATE_HZ, 3) * 1000))


def _on_grid(ms: int) -> int:
    return ms // GRID_MS * GRID_MS


def up_to_grid(ms: int) -> int:
    return -_on_grid(-ms)


def _gap(rules: Rules) -> int:
    """The shortest gap that is on the grid."""
    return up_to_grid(rules.gap_ms)


def _joined(spans: Iterable[_Span], which: Which, rules: Rules) -> list[_Span]:
    """The ``spans``; one that cannot be read before the next begins together with it, if both fit
    into one cue.
    """
    out: list[_Span] = []
    for span in spans:
        if out and _too_short(out[-1], span.start, which, rules):
            together = out[-1] + span
            if _fits_cue(together, which, rules):
                out[-1] = together
                continue
        out.append(span)
    return out


def _too_short(span: _Span, limit: int, which: Which, rules: Rules) -> bool:
    texts = span.shown(which)
    most = max(text.columns for text in texts)
    return limit - span.start < rules.needed_ms(most) + _gap(rules)


def _fits_cue(span: _Span, which: Which, rules: Rules) -> bool:
    texts = span.shown(which)
    lines = rules.lines // len(texts)
    fits = all(least(text.reach(lines)) == 1 for text in texts)
    return fits and span.end - span.start <= rules.longest_ms


@lru_cache(maxsize=16_384)  # a live session writes its files again after each caption
def _blocks(
    spoken: tuple[str, str],
    written: tuple[str, str],
    length_ms: int,
    room_ms: int | None,
    which: Which,
    rules: Rules,
) -> list[Block]:
    """The texts of a span's cues; ``room_ms`` is the time until the next one begins."""
    texts = _Span(0, length_ms, spoken, written).shown(which)
    if len(texts) == 2:
        return _bilingual(texts[0], texts[1], length_ms, rules)
    return divided(texts[0], length_ms, room_ms, rules)


def divided(text: Passage, length_ms: int, room_ms: int | None, rules: Rules) -> list[Block]:
    """As few cues as fit, or some more where that spares sentences and there is time for them."""
    reach = text.reach(rules.lines)
    fewest = max(least(reach), _for_time(text, length_ms, rules))
    most = fewest + min(MORE_CUES, len(text.sentences()))
    if room_ms is not None:
        most = max(fewest, min(most, room_ms // (rules.shortest_ms + _gap(rules))))
    choices = [(n, text.divide(n, reach, CUE_EVENNESS)) for n in range(fewest, most + 1)]
    _, (_, parts) = min(choices, key=lambda found: found[1][0] + CUE_COST * found[0])
    return [Block(part.lines, characters(part.lines)) for part in parts if part]


def _bilingual(above: Passage, below: Passage, length_ms: int, rules: Rules) -> list[Block]:
    """One line of each language a cue, divided in step: by sentences where they correspond."""
    total = above.columns + below.columns
    blocks: list[Block] = []
    for pair in _pairs(above, below):
        share = length_ms * sum(text.columns for text in pair) // total
        longer = max(pair, key=lambda text: text.columns / text.line_columns)
        count = max(*(least(text.reach(1)) for text in pair), _for_time(longer, share, rules))
        for row in zip(*(text.divide(count, text.reach(1))[1] for text in pair), strict=True):
            lines = tuple(part.line for part in row if part)
            blocks += [Block(lines, characters(lines, bilingual=True))] if lines else []
    return blocks


def _pairs(text: Passage, other: Passage) -> list[tuple[Passage, Passage]]:
    """Sentences and their translations, the short ones joined; all in one if they do not match."""
    sentences, translated = text.sentences(), other.sentences()
    if len(sentences) != len(translated):
        return [(text, other)]
    pairs: list[tuple[Passage, Passage]] = []
    for above, below in zip(sentences, translated, strict=True):
        if pairs:
            joined = (pairs[-1][0] + above, pairs[-1][1] + below)
            if all(text.fits_line for text in joined):
                pairs[-1] = joined
                continue
        pairs.append((above, below))
    return pairs


def _for_time(text: Passage, length_ms: int, rules: Rules) -> int:
    """How many cues it takes so that none stays too long, none shorter than half a line."""
    return max(1, min(-(-length_ms // rules.longest_ms), text.columns * 2 // text.line_columns))


def timed(
    blocks: list[Block], start: int, end: int, limit: int | None, rules: Rules
) -> Iterator[Cue]:
    """Cues for ``blocks`` from ``start`` on, timed by their columns; all in milliseconds.

    Those that could not be read by ``end`` are given time after it, but never past ``limit``.
    """
    gap = _gap(rules)
    needs = [up_to_grid(rules.needed_ms(block.characters)) + gap for block in blocks]
    end = max(end + gap, start + sum(needs))
    if limit is not None:
        end = min(end, limit)
    end = max(end, start + GRID_MS * len(blocks))  # captions that overlap get cues that do not
    borders = _borders([block.weight for block in blocks], needs, start, end)
    for block, (begin, following) in zip(blocks, pairwise(borders), strict=True):
        apart = min(gap, _on_grid((following - begin) // 2))
        stop = min(following - apart, begin + rules.longest_ms)
        yield Cue(begin, stop, block.lines)


def _borders(weights: list[int], needs: list[int], start: int, end: int) -> list[int]:
    """Where parts begin that share the time by ``weights``, none with less than it ``needs``; where
    that is not to be had, all lack the same share of it.
    """
    lacking = min(1.0, (end - start) / sum(needs))
    floors = [_on_grid(int(need * lacking)) for need in needs]
    if min(floors) < GRID_MS:
        floors = [GRID_MS] * len(needs)
    borders, weight = [start], 0
    for own, floor in zip(weights, floors, strict=True):
        weight += own
        proportional = _on_grid(start + (end - start) * weight // sum(weights))
        borders.append(max(proportional, borders[-1] + floor))
    borders[-1] = _on_grid(end)
    for at in range(len(weights) - 1, 0, -1):
        borders[at] = min(borders[at], borders[at + 1] - floors[at])
    return borders
