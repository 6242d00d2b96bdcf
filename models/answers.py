"""What a model wrote, read as a transcript and its translation while it is still being written.

:mod:`stages.translate` asks after every token whether the transcript has ended, and makes captions
of what is read. Released models write more than the two texts that they are asked for: newlines
inside a text, headings, labels in any markup, quotes, code fences, and now and then a refusal or
their thoughts in the place of speech. So an answer is read as text, never as token ids.

Unusual: it is read anew from its beginning every time, and yet what was read once never changes. A
character is decided only when nothing behind it could change what it is; the end of an unfinished
answer that might still become a label is held back. All that a decision looks at lies behind the
last one, so an answer of n characters costs O(n).
"""

from dataclasses import dataclass, field
from enum import StrEnum

from dragoman.models import languages
from dragoman.models.lookahead import (
    AHEAD,
    BRACKETS,
    CLOSING,
    MARKUP,
    NUMBERING,
    QUOTES,
    Label,
    Lookahead,
    Undecided,
)
from dragoman.models.phrases import (
    CHATTER,
    FENCE_NAMES,
    PREFACES,
    REFUSALS,
    THOUGHT_TAGS,
    THOUGHTS,
    Part,
    fold,
    labels,
)

ARROWS = ("→", "⟶", "->", "=>")
SENTENCE_ENDS = ".!?…。！？؟।;\"'”»)」』]"
BOLD = {"*", *BRACKETS}
MOST_PREFACE = 160  # characters up to the colon of "Here is the transcription ...:"


class Flag(StrEnum):
    """What an answer has that is neither transcript nor translation; or that one of these is in
    the wrong language, which :mod:`models.written` tells, or said the same over and over.
    """

    REFUSAL = "refusal"
    CHATTER = "chatter"
    THOUGHT = "thought"
    NO_TRANSLATION = "no_translation"
    WRONG_LANGUAGE = "wrong_language"
    REPETITION = "repetition"


@dataclass(frozen=True)
class Answer:
    """What is certain of an answer: both texts on one line each, without markup around them.

    ``ended``: the transcript is through, as its translation has begun or the answer is done.
    ``end``: how many characters of the answer are before the end of the transcript, whatever comes
    then; ``over``: nothing that follows can belong to either text.
    """

    transcript: str
    translation: str
    ended: bool
    end: int
    over: bool
    flags: frozenset[Flag]

    def text(self, part: Part) -> str:
        """One of the two texts."""
        return self.transcript if part is Part.TRANSCRIPT else self.translation


def read(
    text: str, source: str, target: str, done: bool = False, part: Part = Part.TRANSCRIPT
) -> Answer:
    """Reads the ``text`` of an answer to a prompt for a transcript in ``source`` and a translation
    into ``target`` (codes).

    Unless the answer is ``done`` its end is held back where more text could change it: what is read
    of an answer's beginning is the beginning of what is read of all of it. ``part`` says what the
    text begins with, as the translation where its label stood in the prompt.
    Raises LanguageError for an unknown language.
    """
    reader = _Reader(text, source, target, done, part)
    reader.run()
    return reader.answer()


@dataclass
class _Said:
    """One of the two texts: lines become one, joined by a space unless they are ``solid``."""

    solid: bool
    pieces: list[str] = field(default_factory=list)
    gap: str = ""
    end: int = 0  # in the answer

    def add(self, character: str, end: int) -> None:
        if not character.isspace():
            self.pieces += [self.gap, character]
            self.gap, self.end = "", end
        elif self.pieces and not (self.solid and character in "\r\n"):
            self.gap = " "


class _Reader:
    """The state between two characters. What asks for more text than there is raises Undecided,
    before anything has changed.
    """

    def __init__(self, text: str, source: str, target: str, done: bool, part: Part) -> None:
        self._text, self._done, self._at = text, done, 0
        self._labels = labels(source, target)
        self._ahead = Lookahead(text, self._labels, done)
        codes = {Part.TRANSCRIPT: source, Part.TRANSLATION: target}
        self._said = {p: _Said(not languages.find(code).spaced) for p, code in codes.items()}
        self._part, self._end = part, 0 if part is Part.TRANSLATION else None
        self._thinking = self._over = False
        self._closing: list[str] = []  # what was opened in front of the part
        self._flags: set[Flag] = set()

    def run(self) -> None:
        line_begins = True
        try:
            while self._at < len(self._text) and not self._over:
                if line_begins and self._line():
                    continue
                line_begins = self._inside() or self._character()
        except Undecided:
            pass

    def answer(self) -> Answer:
        texts = {part: "".join(said.pieces) for part, said in self._said.items()}
        transcript, translation = texts[Part.TRANSCRIPT], texts[Part.TRANSLATION]
        if self._done and transcript and not translation:
            self._flags.add(Flag.NO_TRANSLATION)
        ended = self._done or self._over or self._end is not None
        end = self._said[Part.TRANSCRIPT].end if self._end is None else self._end
        return Answer(transcript, translation, ended, end, self._over, frozenset(self._flags))

    def _line(self) -> bool:
        """Takes what only the beginning of a line may have; whether there was some."""
        character = self._text[self._at]
        if character.isspace():
            return self._drop(1, character)
        if not any(said.pieces for said in self._said.values()) and self._thought():
            return True
        label = self._ahead.label(self._at, NUMBERING)
        if label is not None and self._turn(label):
            return True
        if self._thinking:
            return self._drop(len(self._text[self._at :].partition("\n")[0]))
        return self._guard() or self._line_markup(character)

    def _line_markup(self, character: str) -> bool:
        """A heading, a rule, a code fence, a bullet, or a quote that the text stands in."""
        fresh = not self._said[self._part].pieces
        if character == "`":
            return self._fence()
        if character in "#>•" or character in MARKUP or (fresh and character in ":："):
            return self._drop(1)
        if character == "-":
            return self._rule()
        if fresh and character in QUOTES:
            self._closing.append(QUOTES[character])
            return self._drop(1)
        return False

    def _inside(self) -> bool:
        """Takes a label of the translation in the middle of a line; whether there was one."""
        said, text, at = self._said[Part.TRANSCRIPT], self._text, self._at
        if self._part is not Part.TRANSCRIPT or not said.pieces:
            return False
        if text[at] in "-=→⟶" and self._ahead.starts(at, ARROWS):
            return self._translates(at + (1 if text[at] in "→⟶" else 2), "")
        sentence = said.pieces[-1] in SENTENCE_ENDS
        if not (text[at - 1].isspace() or sentence) or not self._may_be_label(at):
            return False
        label = self._ahead.label(at)
        if label is None or self._labels.parts[label.phrase] is not Part.TRANSLATION:
            return False
        if not (sentence or label.phrase in self._labels.anywhere or set(label.marks) & BOLD):
            return False
        return self._translates(label.end, label.marks)

    def _may_be_label(self, at: int) -> bool:
        """Whether a label inside a line can begin here: only a capital begins one."""
        character = self._text[at]
        return character in AHEAD or (character.isalpha() and not character.islower())

    def _character(self) -> bool:
        """Takes a character of the text itself; whether a line begins behind it."""
        said, character = self._said[self._part], self._text[self._at]
        if character in self._closing:
            self._closing.remove(character)
        elif character not in MARKUP or self._is_times():
            said.add(character, self._at + 1)
        if not character.isspace():
            said.end = self._at + 1
        self._at += 1
        return character == "\n"

    def _is_times(self) -> bool:
        """Whether an asterisk stands between spaces, as in a product."""
        around = self._text[self._at - 1 : self._at + 2]
        if around == " *":
            self._ahead.wait()
        return around == " * "

    def _turn(self, label: Label) -> bool:
        """Goes on with the part that a label at the beginning of a line announces."""
        part = self._labels.parts[label.phrase]
        if part is Part.TRANSLATION:
            return self._translates(label.end, label.marks)
        self._thinking = False
        return self._begin(part, label.end, label.marks)

    def _translates(self, end: int, marks: str) -> bool:
        if self._end is None:
            self._end = self._said[Part.TRANSCRIPT].end
        return self._begin(Part.TRANSLATION, end, marks)

    def _begin(self, part: Part, end: int, marks: str) -> bool:
        self._part, self._at, self._thinking = part, end, False
        opened = [m for m in marks if m in CLOSING]
        self._closing = [CLOSING[m] for m in opened if CLOSING[m] not in self._text[end - 1 : end]]
        self._said[part].add(" ", end)
        return True

    def _guard(self) -> bool:
        """Takes what is no answer at all; whether there was some."""
        said = self._said[self._part]
        if self._ahead.begins(self._at, REFUSALS):
            return self._stop(Flag.REFUSAL)
        if not said.pieces:
            return self._ahead.begins(self._at, PREFACES) and self._preface()
        if self._part is Part.TRANSLATION and self._ahead.begins(self._at, CHATTER):
            return self._stop(Flag.CHATTER)
        return False

    def _stop(self, flag: Flag) -> bool:
        self._flags.add(flag)
        self._over = True
        return True

    def _preface(self) -> bool:
        """Takes a preface up to its colon, or to the end of its line."""
        ahead = self._text[self._at : self._at + MOST_PREFACE]
        places = [place for mark in ":：\n" if (place := ahead.find(mark)) >= 0]
        if not places and len(ahead) < MOST_PREFACE:
            self._ahead.wait()
        return bool(places) and self._drop(min(places) + 1)

    def _thought(self) -> bool:
        """Takes the beginning of a thought, or all of one that stands in tags."""
        if self._text[self._at] == "<" and (
            tag := self._ahead.starts(self._at, tuple(THOUGHT_TAGS))
        ):
            _, closed, behind = self._text[self._at :].partition(THOUGHT_TAGS[tag])
            self._flags.add(Flag.THOUGHT)
            return self._drop(len(self._text) - self._at - len(behind) * bool(closed))
        if self._thinking or not self._ahead.begins(self._at, THOUGHTS):
            return False
        self._flags.add(Flag.THOUGHT)
        self._thinking = True
        return True

    def _fence(self) -> bool:
        """Takes backticks, with the name of what they fence in."""
        rest = self._text[self._at :].lstrip("`")
        name, line_end, _ = rest.partition("\n")
        names = [n for n in (*FENCE_NAMES, *self._labels.bare) if n.startswith(fold(name.strip()))]
        if names and not line_end:
            self._ahead.wait()
        whole = bool(line_end) and fold(name.strip()) in names
        return self._drop(len(self._text) - self._at - len(rest) + len(name) * whole)

    def _rule(self) -> bool:
        """Takes a line of dashes; one dash is what a speaker begins with."""
        line, line_end, _ = self._text[self._at :].partition("\n")
        if line.strip("- "):
            return False
        if not line_end:
            self._ahead.wait()
        return line.count("-") > 2 and self._drop(len(line))

    def _drop(self, count: int, character: str = "") -> bool:
        """Goes on behind ``count`` characters, of which no text gets any but a space."""
        if character:
            self._said[self._part].add(character, self._at)
        self._at += count
        return True
