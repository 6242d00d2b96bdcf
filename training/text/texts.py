"""Draws sentences: from whole sentences, filled frames, and short phrases, by split.

Place: what `training.speech` asks for something to say, and the trainer for text to read.

Splits go by SHA-256: 4 % of the sentences and 5 % of the frames are dev, as many test, and one
filler in twenty is held out. Training sees no held-out filler in a frame, and no sentence that
equals an evaluation sentence, or differs from one by a word, in any language. For that to be
decidable the evaluation sentences are a fixed list: each evaluation frame is filled a fixed number
of times, with the fillers that rank first by a hash, so that new rows hardly change the list.
"""

import functools
import random
from dataclasses import dataclass
from pathlib import Path

from training.text.frames import Frame, parse
from training.text.leaks import NearIndex
from training.text.nouns import phrase
from training.text.tables import (
    FOLDER,
    LANGUAGES,
    SPLITS,
    Filler,
    TableError,
    digest,
    frame_split,
    read_fillers,
    read_rows,
    sentence_split,
)

PHRASE_SHARE, FRAME_SHARE = 0.04, 0.46  # of what training draws
_HELD_OUT_FILLERS = 20  # one in so many
_SMALL_CATEGORY = 30  # fillers; nothing of a smaller one (days, months) is held out
_FILLS = 12  # of one evaluation frame
_PHRASE_FORMS = ("the", "a", "my", "thes", "of", "in", "with")


@dataclass(frozen=True)
class Sentence:
    """id: the row it comes from, with its fillers. texts: by language."""

    id: str
    texts: dict[str, str]


class Texts:
    """The tables of a folder, ready to be drawn from. Raises TableError for a faulty table."""

    def __init__(self, folder: Path | str = FOLDER):
        folder = Path(folder)
        self.fillers = read_fillers(folder / "slots")
        self.sentences: dict[str, list[Sentence]] = {split: [] for split in SPLITS}
        self.frames: dict[str, list[Frame]] = {split: [] for split in SPLITS}
        for row in read_rows(folder / "sentences"):
            sentence = Sentence(row.id, dict(zip(LANGUAGES, row.cells, strict=True)))
            self.sentences[sentence_split(row.cells[0])].append(sentence)
        for row in read_rows(folder / "frames"):
            self.frames[frame_split(row.cells[0])].append(self._known(parse(row)))
        if not any(self.sentences.values()):
            raise TableError(f"expected sentences/*.tsv in {folder}, got none; give another folder")
        self._held_out = {f.id for fillers in self.fillers.values() for f in _held_out(fillers)}

    def draw(self, rng: random.Random, split: str) -> Sentence:
        """A random sentence of a split. Training draws reject what is near to an evaluation one."""
        if split not in SPLITS:
            raise ValueError(f"unknown split: got {split!r}, expected one of {SPLITS}")
        if split != "train":
            return rng.choice(self.held_out(split))
        while True:
            sentence = self._draw(rng)
            if not self.leaks(sentence):
                return sentence

    @functools.cache  # noqa: B019 - one Texts lives as long as its process needs text
    def held_out(self, split: str) -> list[Sentence]:
        """All sentences of dev or test."""
        filled = [self._fixed(frame, n) for frame in self.frames[split] for n in range(_FILLS)]
        unique = {tuple(s.texts.values()): s for s in [*self.sentences[split], *filled]}
        return list(unique.values())

    def leaks(self, sentence: Sentence) -> bool:
        """Whether it equals an evaluation sentence, or differs from one by a word, in any
        language.
        """
        return any(index.near(sentence.texts[lang]) for lang, index in self._indexes.items())

    @functools.cached_property
    def _indexes(self) -> dict[str, NearIndex]:
        kept = self.held_out("dev") + self.held_out("test")
        return {lang: NearIndex(s.texts[lang] for s in kept) for lang in LANGUAGES}

    def _draw(self, rng: random.Random) -> Sentence:
        kind = rng.random()
        if kind < PHRASE_SHARE and self.fillers:
            return self._phrase(rng)
        if kind < PHRASE_SHARE + FRAME_SHARE and self.frames["train"]:
            return self._filled(rng.choice(self.frames["train"]), rng)
        return rng.choice(self.sentences["train"])

    def _filled(self, frame: Frame, rng: random.Random) -> Sentence:
        chosen: dict[str, Filler] = {}
        for name in frame.slots:
            free = [f for f in self._fitting(frame, name, chosen) if f.id not in self._held_out]
            chosen[name] = rng.choice(free)
        return _sentence(frame, chosen)

    def _fixed(self, frame: Frame, number: int) -> Sentence:
        """The evaluation frame with the fillers that rank first for this number."""
        chosen: dict[str, Filler] = {}
        for name in frame.slots:
            fitting = self._fitting(frame, name, chosen)
            rank = functools.partial(digest, frame.row.id, name, str(number))
            chosen[name] = min(fitting, key=lambda f, rank=rank: rank(f.id))
        return _sentence(frame, chosen)

    def _fitting(self, frame: Frame, name: str, chosen: dict[str, Filler]) -> list[Filler]:
        """Fillers that have the forms the slot asks for and stand in no other slot yet."""
        taken = {filler.id for filler in chosen.values()}
        return [
            f for f in self.fillers[frame.slots[name]] if f.id not in taken and frame.takes(name, f)
        ]

    def _phrase(self, rng: random.Random) -> Sentence:
        """One to a few words: a noun with an article, a name, a time, a number."""
        category = rng.choice(sorted(self.fillers))
        fillers = [f for f in self.fillers[category] if f.id not in self._held_out]
        filler = rng.choice(fillers)
        form = rng.choice(_PHRASE_FORMS)
        if not all(entry.plural for entry in filler.entries):
            form = "the" if all(entry.gender for entry in filler.entries[1:]) else ""
        if category == "name":
            form = ""
        texts = {
            lang: _as_sentence(phrase(lang, entry, form, category == "relative"))
            for lang, entry in zip(LANGUAGES, filler.entries, strict=True)
        }
        return Sentence(f"{filler.id}/{form}", texts)

    def _known(self, frame: Frame) -> Frame:
        """The frame. Raises TableError when a slot's category has no table or nothing fits."""
        for name, category in frame.slots.items():
            if not any(frame.takes(name, f) for f in self.fillers.get(category, [])):
                raise TableError(
                    f"{frame.row.place}: nothing can fill {{{name}}}; expected a category among "
                    f"{sorted(self.fillers)} that has the form"
                )
        return frame


def _sentence(frame: Frame, chosen: dict[str, Filler]) -> Sentence:
    ids = "+".join(filler.id for filler in chosen.values())
    return Sentence(f"{frame.row.id}/{ids}", frame.fill(chosen))


def _held_out(fillers: list[Filler]) -> list[Filler]:
    if len(fillers) < _SMALL_CATEGORY:
        return []
    return [f for f in fillers if digest(f.id) % _HELD_OUT_FILLERS == 0]


def _as_sentence(text: str) -> str:
    text = text.replace("*", "")
    return text[0].upper() + text[1:] + "."
