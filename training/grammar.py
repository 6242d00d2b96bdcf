"""A grammar of sentences in parallel languages, with the alignment that live translation needs.

Place: the source of all text that the bundled model learns from (`training.corpus` speaks it). The
sentences themselves are data: see `training.grammar_es_en`.

A template has one text per language, cut into pieces by `|`. Piece j of a translation stands for
piece j of the source, or for those named by a mark such as `2:` or `1,2:`. A slot
`{name.form@other}` is filled from a category of entries: the same entry in every language, in the
given form, agreeing with the entry in slot `other`. `{name#2}` is a second, different draw. So a
further language is a further column; nothing here knows Spanish or English.

Unusual: `english_prefix(n)` is what an interpreter may already say after n source words without
ever taking it back.
"""

import functools
import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

SOURCE, TARGET = "es", "en"
SPLITS = ("train", "dev", "test")
_DEV_SHARE, _TEST_SHARE = 0.02, 0.02
_SLOT = re.compile(r"\{([\w#]+)(?:\.(\w+))?(?:@([\w#]+))?\}")
_MARK = re.compile(r"^([\d,]+):")


@dataclass(frozen=True)
class Forms:
    """What one entry looks like in one language: its forms, and the tags that others agree with."""

    forms: Mapping[str, str]
    tags: tuple[str, ...] = ()

    def get(self, form: str, tags: Sequence[str]) -> str:
        """The text of a form, agreeing with the tags. Raises KeyError with what there is."""
        for key in (*(f"{form}.{tag}" for tag in tags), form):
            if key in self.forms:
                return self.forms[key]
        raise KeyError(f"no form {form!r} for tags {tags}; there are {sorted(self.forms)}")


Entry = Mapping[str, Forms]


@dataclass(frozen=True)
class Chunk:
    """A piece of a sentence in one language. needs: indices of the source chunks that it
    translates.
    """

    text: str
    needs: tuple[int, ...]

    @property
    def words(self) -> list[str]:
        return self.text.split()


@dataclass(frozen=True)
class Sentence:
    """One sentence and its translation. chunks: per language, in that language's order."""

    chunks: Mapping[str, tuple[Chunk, ...]]

    @functools.cached_property
    def spanish(self) -> str:
        return self.text(SOURCE)

    @functools.cached_property
    def english(self) -> str:
        return self.text(TARGET)

    def text(self, language: str) -> str:
        """The whole sentence in one language."""
        return " ".join(chunk.text for chunk in self.chunks[language])

    def spanish_prefix(self, n: int) -> str:
        """The first n words, without final punctuation unless these are all."""
        words = self.spanish.split()
        return self.spanish if n >= len(words) else " ".join(words[:n]).rstrip(".?!,")

    def english_prefix(self, n_spanish_words: int) -> str:
        """The longest English start, in whole words, whose source chunks lie within the first n
        Spanish words.
        """
        return self.target_prefix(TARGET, n_spanish_words)

    def target_prefix(self, language: str, n: int) -> str:
        """As `english_prefix`, for any target language."""
        ends, total = [], 0
        for chunk in self.chunks[SOURCE]:
            total += len(chunk.words)
            ends.append(total)
        if n >= total:
            return self.text(language)
        said: list[str] = []
        for chunk in self.chunks[language]:
            if any(ends[index] > n for index in chunk.needs):
                break
            said += chunk.words
        # The last word carries the full stop, so it is only known at the very end.
        if len(said) == len(self.text(language).split()):
            said.pop()
        return " ".join(said)


@dataclass(frozen=True)
class Template:
    """One sentence pattern. texts: language to pieces; weight: how often it is drawn, against 1 for
    the others.
    """

    texts: Mapping[str, str]
    weight: float = 1.0


class Grammar:
    """Templates and the categories of entries that fill their slots.

    finish: per language, a function applied to each piece once its slots are filled (contractions,
    articles). Raises ValueError when a template names an unknown category or misaligns a slot.
    """

    def __init__(
        self,
        templates: Sequence[Template],
        categories: Mapping[str, Sequence[Entry]],
        finish: Mapping[str, Callable[[str], str]],
    ):
        self.templates = tuple(templates)
        self.categories = categories
        self._finish = finish
        self._weights = [template.weight for template in self.templates]
        for template in self.templates:
            self._check(template)

    def sample(self, rng: random.Random) -> Sentence:
        """Draw a sentence; the same generator state gives the same sentence."""
        return self.fill(rng.choices(self.templates, self._weights)[0], rng)

    def fill(self, template: Template, rng: random.Random) -> Sentence:
        """Draw entries for the slots of one template."""
        chosen: dict[str, Entry] = {}
        for slot in _slots(template.texts[SOURCE]):
            entry = rng.choice(self.categories[_category(slot)])
            while entry in chosen.values():  # not "my sister calls my sister"
                entry = rng.choice(self.categories[_category(slot)])
            chosen[slot] = entry
        return Sentence(
            {lang: self._render(lang, text, chosen) for lang, text in template.texts.items()}
        )

    def _render(self, language: str, text: str, chosen: Mapping[str, Entry]) -> tuple[Chunk, ...]:
        def value(match: re.Match[str]) -> str:
            name, form, other = match.groups()
            tags = chosen[other][language].tags if other else ()
            return chosen[name][language].get(form or "text", tags)

        chunks = []
        for needs, piece in _pieces(text):
            filled = self._finish[language](" ".join(_SLOT.sub(value, piece).split()))
            chunks.append((filled, needs))
        return _sentence_case(chunks)

    def _check(self, template: Template) -> None:
        source = _pieces(template.texts[SOURCE])
        for language, text in template.texts.items():
            for needs, piece in _pieces(text):
                names = set(_slots(piece))
                unknown = [n for n in names if _category(n) not in self.categories]
                if unknown or max(needs) >= len(source):
                    raise ValueError(
                        f"{text!r}: unknown categories {unknown} or chunk numbers {needs}"
                    )
                known = {n for index in needs for n in _slots(source[index][1])}
                if language != SOURCE and not names <= known:
                    raise ValueError(
                        f"{text!r}: piece {piece!r} uses {names - known} before its source; "
                        "mark it with the numbers of the source pieces it needs"
                    )


def split_of(text: str) -> str:
    """Which of SPLITS a source text is in: 96, 2 and 2 in a hundred, by SHA-256, for ever."""
    share = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
    if share < _TEST_SHARE:
        return "test"
    return "dev" if share < _TEST_SHARE + _DEV_SHARE else "train"


def split(sentence: Sentence) -> str:
    """Which split a sentence belongs to; see `split_of`."""
    return split_of(sentence.spanish)


@functools.cache
def grammar() -> Grammar:
    """The bundled Spanish to English grammar."""
    from training.grammar_entries import FINISH
    from training.grammar_es_en import CATEGORIES
    from training.grammar_patterns import TEMPLATES

    return Grammar(TEMPLATES, CATEGORIES, FINISH)


def sample(rng: random.Random) -> Sentence:
    """Draw a sentence of the bundled grammar."""
    return grammar().sample(rng)


def _category(slot: str) -> str:
    return slot.split("#")[0]


def _slots(text: str) -> list[str]:
    """Slot names in order of appearance, those only agreed with included."""
    names = [n for name, _, other in _SLOT.findall(text) for n in (name, other) if n]
    return list(dict.fromkeys(names))


@functools.cache
def _pieces(text: str) -> tuple[tuple[tuple[int, ...], str], ...]:
    """(source pieces needed, piece) for each piece of a template's text."""
    pieces = []
    for index, raw in enumerate(text.split("|")):
        piece = raw.strip()
        mark = _MARK.match(piece)
        needs = tuple(int(n) for n in mark.group(1).split(",")) if mark else (index,)
        pieces.append((needs, piece[mark.end() :].strip() if mark else piece))
    return tuple(pieces)


def _sentence_case(chunks: list[tuple[str, tuple[int, ...]]]) -> tuple[Chunk, ...]:
    """Drop empty pieces, give the sentence a capital."""
    out = []
    for text, needs in chunks:
        if not out:
            letter = 1 if text.startswith("¿") else 0
            text = text[:letter] + text[letter : letter + 1].upper() + text[letter + 1 :]
        out.append(Chunk(text, needs))
    return tuple(out)
