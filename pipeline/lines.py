"""Divides the text of a subtitle: into cues, and cues into lines, in every script.

In front of :mod:`pipeline.subtitles`, which gives cues their times. Of scripts without spaces a
letter with its marks is a word (:mod:`models.words`), so no word and no letter is ever torn.

What is unusual: one small dynamic program weighs sentence ends, clause ends and spaces against even
lengths; it serves for the cues of a segment and for the lines of a cue alike. Where there are no
spaces any two letters may be parted, which costs less where a Japanese word is likely to begin.
"""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import regex

from dragoman.models import languages
from dragoman.models.words import columns, spaced_words
from dragoman.pipeline.rules import LINE_CHARS, line_columns

SENTENCE_ENDS = ".?!…。？！؟۔।။"
CLAUSE_ENDS = ",;:–—、，；：،؛၊"
CLOSING_MARKS = "\"'»”’)]」』）》"
# Costs of a break, in units of one part being empty or twice as long as it should be.
CLAUSE_COST, WORD_COST, LETTER_COST, EMPTY_COST = 0.3, 1.0, 1.5, 4.0
# An article, a preposition or a conjunction begins a phrase and ends none. They are the shortest of
# words, by which they are known in every language.
SHORT_COLUMNS, BEFORE_SHORT_COST, BEHIND_SHORT_COST = 3, 0.8, 1.5
LEFT_TO_RIGHT, RIGHT_TO_LEFT = "\u200e", "\u200f"  # marks without a width
# Japanese particles and endings are in hiragana, and behind them mostly a word begins.
_JAPANESE_WORD = regex.compile(r"\p{Hiragana}\W*\0[\p{Han}\p{Katakana}]")


@dataclass(frozen=True)
class Passage:
    """Words of one language, each with the space behind it if there is one, and how wide a line
    may be, in columns.
    """

    words: Sequence[str]
    line_columns: int = LINE_CHARS
    right_to_left: bool = False

    @classmethod
    def of(cls, text: str, code: str) -> "Passage":
        """The ``text`` in a language's ``code``; raises LanguageError."""
        language = languages.find(code)
        return cls(spaced_words(text), line_columns(language.code), language.right_to_left)

    def __add__(self, other: "Passage") -> "Passage":
        return Passage([*self.words, *other.words], self.line_columns, self.right_to_left)

    def __bool__(self) -> bool:
        return bool(self.words)

    @property
    def columns(self) -> int:
        """How wide it is as one line."""
        return self._width(0, len(self.words))

    @property
    def fits_line(self) -> bool:
        return self.reach(1)[0] == len(self.words)

    @property
    def line(self) -> str:
        """The words as one line, with a mark in front where it would run the wrong way: a line runs
        as its first letter does (Unicode's UAX 9, rules P2 and P3), which may be a foreign one.
        """
        text = "".join(self.words).rstrip()
        first = next((d for d in map(unicodedata.bidirectional, text) if d in ("L", "R", "AL")), "")
        if not text or (first in ("R", "AL")) == self.right_to_left:
            return text
        return (RIGHT_TO_LEFT if self.right_to_left else LEFT_TO_RIGHT) + text

    @property
    def lines(self) -> tuple[str, ...]:
        """As few lines as it fits on."""
        reach = self.reach(1)
        return tuple(part.line for part in self.divide(least(reach), reach)[1] if part)

    def sentences(self) -> list["Passage"]:
        """The same by sentence."""
        ends = [at for at, word in enumerate(self.words, 1) if _mark(word) in SENTENCE_ENDS]
        borders = dict.fromkeys([0, *ends, len(self.words)])
        return [self._part(first, end) for first, end in pairwise(borders)]

    def reach(self, lines: int) -> list[int]:
        """For each word, and the end, where the longest part that begins there and fits on so many
        lines ends. A word is never torn, so a single one always fits.
        """
        reach, end, count = [], 0, len(self.words)
        for first in range(count):
            end = max(end, first + 1)
            while end < count and self._width(first, end + 1) <= self.line_columns:
                end += 1
            reach.append(end)
        reach.append(count)
        out = reach
        for _ in range(lines - 1):
            out = [reach[end] for end in out]
        return out

    def divide(
        self, count: int, reach: Sequence[int], evenness: float = 1.0
    ) -> tuple[float, list["Passage"]]:
        """The cheapest division into ``count`` parts within their ``reach``, and its cost.

        ``count`` is at least what `least` says; parts are empty where there are too few words.
        ``evenness`` says how much equal lengths matter beside breaks at phrases.
        """
        words, ideal = self.words, max(1.0, self.columns / count)
        # best[j]: cost and borders of the first j words in as many parts as rounds have passed.
        best: list[tuple[float, list[int]]] = [(0.0, [0])] + [(math.inf, [])] * len(words)
        for _ in range(count):
            following = [(cost + EMPTY_COST, [*at, end]) for end, (cost, at) in enumerate(best)]
            for end in range(1, len(words) + 1):
                at_end = 0.0 if end == len(words) else _break_cost(words[end - 1], words[end])
                for first in range(end - 1, -1, -1):
                    if reach[first] < end:
                        break
                    uneven = evenness * (self._width(first, end) / ideal - 1) ** 2
                    cost = best[first][0] + at_end + uneven
                    if cost <= following[end][0]:  # of equal ones that with the longer last part
                        following[end] = (cost, [*best[first][1], end])
            best = following
        cost, borders = best[-1]
        return cost, [self._part(first, end) for first, end in pairwise(borders)]

    def _part(self, first: int, end: int) -> "Passage":
        return Passage(self.words[first:end], self.line_columns, self.right_to_left)

    def _width(self, first: int, end: int) -> int:
        """Columns of the words from ``first`` to ``end`` as one line."""
        if first == end:
            return 0
        return self._ends[end] - self._ends[first] - self.words[end - 1].endswith(" ")

    @cached_property
    def _ends(self) -> list[int]:
        """Columns up to each word, spaces included."""
        return list(accumulate(map(columns, self.words), initial=0))


def least(reach: Sequence[int]) -> int:
    """How many parts there are at least; 1 where there is nothing."""
    count, at = 1, reach[0]
    while at < len(reach) - 1:
        count, at = count + 1, reach[at]
    return count


def _mark(word: str) -> str:
    """The last character of a word but for spaces and what closes brackets and quotes."""
    return word.rstrip().rstrip(CLOSING_MARKS)[-1:] or " "


def _break_cost(word: str, following: str) -> float:
    """What it costs to end a part with ``word``."""
    last = _mark(word)
    if last in SENTENCE_ENDS:
        return 0.0
    if last in CLAUSE_ENDS:
        return CLAUSE_COST
    if word.endswith(" ") and _is_short(word):
        return BEHIND_SHORT_COST
    if word.endswith(" ") and _is_short(following):
        return BEFORE_SHORT_COST
    if word.endswith(" ") or _JAPANESE_WORD.search(f"{word}\0{following}"):
        return WORD_COST
    return LETTER_COST


def _is_short(word: str) -> bool:
    return columns(word.rstrip()) <= SHORT_COLUMNS
