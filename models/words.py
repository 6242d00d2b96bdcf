"""Where words begin and end, in every script: for scores, confidences, commit policies and lines.

Most languages put spaces between words. Chinese, Japanese, Thai, Lao, Khmer and Burmese do not, and
to find their words takes a dictionary. What takes their place here is the letter with all that may
not be torn from it: its marks, the vowels written before or after it, and, as lines of those
languages want it (JIS X 4051, Unicode's UAX 14), punctuation. By the usual convention their errors
are counted by characters, so `normalized` sets these apart and any word error rate of it counts
them. A script tells, not a language, so what mixes both is counted by both rules.
"""

import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

import regex

# Letters of scripts without spaces between words. Some of their signs are common to several.
SOLID = (
    r"(?:[[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}"
    r"\p{scx=Thai}\p{scx=Lao}\p{scx=Khmer}\p{scx=Myanmar}]&&\p{L}])"
)
_OPENING = r"[\p{Ps}\p{Pi}¿¡$£¥€]"
# Vowels that Thai and Lao write in front of their consonant.
_BEFORE = r"[เแโใไເແໂໃໄ]"
# One letter and its marks; a Khmer or Burmese sign that puts the next letter below this one.
_LETTER = rf"(?={SOLID})\X(?:(?<=[\u17D2\u1039])(?=\S)\X)*"
# What cannot begin a line: small and lengthening signs of Japanese, vowels and signs that follow
# in Thai, Lao and Khmer, a Burmese final consonant, and what is no letter, marks among it.
_BEHIND = (
    r"(?:[ぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶーゝゞヽヾ々〻]"
    r"|[ะาำๅๆฯະາຳຯໆៗ]|(?=[\u1000-\u1021]\u1037?\u103A(?!\u1039))\X"
    rf"|(?!{_OPENING})[^\s\p{{L}}\p{{N}}])\p{{M}}*"
)
_OTHER = rf"(?:(?!{SOLID}|{_OPENING})\S)+"
_WORD = regex.compile(
    rf"(?<!\S)(?:(?!{SOLID})\S)+(?!\S)|{_OPENING}*(?:{_BEFORE}*{_LETTER}|{_OTHER})(?:{_BEHIND})*|\S",
    regex.V1,
)
_COMPARED = regex.compile(rf"{_LETTER}\p{{M}}*|(?:(?!{SOLID})\S)+", regex.V1)
_BEGINS = regex.compile(rf"(?!{_BEHIND}){SOLID}", regex.V1)
_CLUSTER = regex.compile(r"\X")
_ENDS_SOLID = regex.compile(rf"{SOLID}\p{{M}}*[^\s\p{{L}}\p{{N}}]*$", regex.V1)
_BEGINS_SOLID = regex.compile(rf"[^\s\p{{L}}\p{{N}}]*{SOLID}", regex.V1)


def words(text: str) -> list[str]:
    """The words of ``text``, in order: what spaces part, and of scripts without them each letter
    with what may not be torn from it. Joined they are the text without its spaces.
    """
    return _WORD.findall(text)


def spaced_words(text: str) -> list[str]:
    """The same, each with one space behind it where ``text`` has any; joined they are the text in
    one line.
    """
    text = " ".join(text.split())
    ends = [match.end() for match in _WORD.finditer(text)]
    gaps = [end + (text[end : end + 1] == " ") for end in ends]
    return [text[begin:end] for begin, end in zip([0, *gaps], gaps, strict=False)]


def one_line(lines: Iterable[str]) -> str:
    """``lines`` as one: with a space where they meet, unless both sides are without spaces."""
    text = ""
    for line in filter(None, lines):
        solid = _ENDS_SOLID.search(text) and _BEGINS_SOLID.match(line)
        text += line if not text or solid else f" {line}"
    return text


def normalized(text: str) -> str:
    """Lower case, punctuation and symbols gone, single spaces between words; a letter of a script
    without spaces counts as one, with its marks.
    """
    kept = (" " if unicodedata.category(c)[0] in "PS" else c for c in text.lower())
    return " ".join(_COMPARED.findall("".join(kept)))


def pieces_of(said: Sequence[str], pieces: Sequence[str]) -> list[tuple[int, int] | None]:
    """The first and the last of ``pieces`` in which each word of ``said`` stands, which come in
    this order in the joined pieces; None for one that does not stand there as it is.

    Pieces and words do not share borders: punctuation is a piece of its own and part of a word, and
    a piece may hold the end of one word and the beginning of the next.
    """
    written, ends = "".join(pieces), list(accumulate(map(len, pieces)))
    places: list[tuple[int, int] | None] = []
    at = 0
    for word in said:
        found = written.find(word, at)
        if found < 0:
            places.append(None)
            continue
        at = found + len(word)
        places.append((bisect_right(ends, found), bisect_right(ends, at - 1)))
    return places


def begins_word(text: str) -> bool:
    """Whether ``text`` begins a word even right behind a letter, since words of its first letter's
    script need no space.
    """
    return _BEGINS.match(text) is not None


def columns(text: str) -> int:
    """How wide ``text`` is on a screen with letters of one width: a letter with its marks takes one
    column, a wide one (Chinese, Japanese, Korean, emoji) two, a mark of direction none. Source:
    Unicode's UAX 11 and 29.
    """
    first = (c[0] for c in _CLUSTER.findall(text) if unicodedata.category(c[0]) != "Cf")
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in first)
