"""Looks ahead in a text that is still being written: for labels and for the phrases of tables.

:mod:`models.answers` asks what begins at a place of an answer. Unusual: besides yes and no there is
`Undecided`, where the text ends before either is sure. What is found at a place, or not found,
depends on nothing but the characters that were looked at, so more text never changes it.
"""

from dataclasses import dataclass
from unicodedata import category

from dragoman.models.phrases import Labels, Part, Phrases, fold

QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»", "「": "」", "『": "』"}
BRACKETS = {"(": ")", "[": "]", "（": "）", "【": "】"}
CLOSING = QUOTES | BRACKETS
MARKUP = "*_`"  # dropped wherever it stands
HEADING = "#*" + "".join(BRACKETS)  # what may take the place of a colon
AHEAD = "#>•*_|–—" + "".join(CLOSING)  # what may stand in front of a label, besides spaces
NUMBERING = "0123456789.)-"  # as well, at the beginning of a line


_BETWEEN = MARKUP + '"' + "".join([*BRACKETS, *BRACKETS.values()])


class Undecided(Exception):
    """More text is needed to say what begins here."""


@dataclass(frozen=True)
class Label:
    """A label in the answer: its phrase, where that and the text after the label begin, and the
    ``marks`` in front of it.
    """

    phrase: str
    start: int
    end: int
    marks: str


class Lookahead:
    """The ``text`` of an answer in which ``labels`` may stand; when it is ``done`` there is nothing
    to wait for, and nothing raises Undecided.
    """

    def __init__(self, text: str, labels: Labels, done: bool) -> None:
        self._text, self._labels, self._done = text, labels, done

    def label(self, at: int, ahead: str = "") -> Label | None:
        """The label that begins here, behind marks or what is ``ahead``."""
        text, start = self._text, at
        while start < len(text) and (
            text[start] in AHEAD + ahead + " " or _is_picture(text[start])
        ):
            start += 1
        marks, phrase = text[at:start], ""
        for place in range(start, len(text)):
            name, character = phrase.rstrip(), text[place]
            known = self._is_label(name, text[start:place])
            width = self._ends(name, character, marks, ahead) if known else None
            if width is not None:
                return Label(name, start, place + width, marks)
            phrase = _longer(phrase, character)
            if character == "\n" or not (phrase in self._labels.begun or self._is_label(phrase)):
                return None
        self.wait()
        name = phrase.rstrip()
        alone = self._alone(name, marks, ahead) and any(mark in HEADING for mark in marks)
        return Label(name, start, len(text), marks) if alone else None

    def begins(self, at: int, phrases: Phrases) -> bool:
        """Whether one of ``phrases`` begins here, whatever its markup and punctuation."""
        found = ""
        for character in self._text[at:] + "\n" * self._done:
            piece = fold(character) if _is_said(character) else " "
            closed = {"\n": "$", ":": ":", "：": ":"}.get(character, piece)
            if found + closed in phrases or found + piece in phrases:
                return True
            if piece != " " or (found and not found.endswith(" ")):
                found += piece
            if character == "\n" and found.strip() or not phrases.may_become(found):
                return False
        self.wait()
        return False

    def starts(self, at: int, marks: tuple[str, ...]) -> str:
        """Which of ``marks`` begins here; nothing where none does."""
        ahead = self._text[at:]
        if any(mark.startswith(ahead) and mark != ahead for mark in marks):
            self.wait()
        return next((mark for mark in marks if ahead.startswith(mark)), "")

    def wait(self) -> None:
        """The next step depends on text that is not there; there will be none if all is done."""
        if not self._done:
            raise Undecided

    def _is_label(self, phrase: str, written: str = "") -> bool:
        codes, name = self._labels.codes, phrase.rstrip()
        return name in self._labels.parts and (name not in codes or not written.islower())

    def _alone(self, phrase: str, marks: str, ahead: str) -> bool:
        """Whether a label needs no colon; at the beginning of a line none does in bold letters."""
        bold = bool(ahead) and any(mark in "#*" for mark in marks)
        return phrase in self._labels.bare or (bold and phrase in self._labels.parts)

    def _ends(self, phrase: str, character: str, marks: str, ahead: str) -> int | None:
        """How many characters, from the one behind its phrase on, end a label; None: none does."""
        if character in ":：":
            return 1
        if character in [BRACKETS[m] for m in marks if m in BRACKETS]:
            return 1
        if not self._alone(phrase, marks, ahead):
            return None
        if character in "*_" and character in marks:
            return 0
        if not ahead:
            return None
        dash = character in "-–—" and self._labels.parts[phrase] is Part.TRANSLATION
        return 1 if dash else 0 if character == "\n" else None


def _is_picture(character: str) -> bool:
    """Whether a character is an emoji, or a part of one."""
    return category(character) in ("So", "Sk") or character == "\ufe0f"


def _is_said(character: str) -> bool:
    """Whether a character is of a word; vowels and other signs of a letter are no letters."""
    return character.isalnum() or character in "'’-" or category(character).startswith("M")


def _longer(phrase: str, character: str) -> str:
    """A folded phrase with one more character; markup and spaces between words are one space."""
    if not (character.isspace() or character in _BETWEEN):
        return phrase + fold(character)
    return phrase if phrase in ("", phrase.rstrip() + " ") else phrase + " "
