"""From examples to one padded batch: audio cut at a random moment, and the answer fit for it.

Live decoding asks for the answer to unfinished speech, over and over. So half of the examples are
cut after a random number of soft tokens; their answer holds the words that had ended by then. No
words are aligned with their translation: its part that can be said is taken to be as large as the
part that was heard, less a word. The encoder is causal, so a cut is simply fewer tokens.

Unusual: a batch may have no audio at all. Then the answer's transcript is given and its translation
is to be told, which is how the decoder learns to translate from text that nobody speaks.
"""

import random
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor

from dragoman.models import prompt as prompts
from dragoman.models.prompt import Prompt
from dragoman.models.tokenizer import Tokenizer
from training.nano import LANGUAGES

CHUNK_SAMPLES = 2_560
UNHEARD_SAMPLES = 1_088  # the end of the newest chunk that its soft token does not depend on
MARGIN_SAMPLES = 480  # a word is expected once it ended this long before what was heard
LATE_TOKENS = 2  # a causal encoder may tell so much later what was said
SLOW_SAMPLES = 1_600  # the most that a character takes; what is longer is a pause before the word
LETTERS = " abcdefghijklmnopqrstuvwxyzáàâãäçéèêëíìîïñóòôõöúùûüœ'"
IGNORE = -100
PADDING = -1  # before a prompt that is shorter than another
CUT_SHARE = 0.5
CUT_TEXT_SHARE = 0.3
_SILENCE = torch.zeros(0)


@dataclass(frozen=True)
class Spoken:
    """One utterance as the trainer sees it: ``samples`` float32 [S] after augmentation.

    ``word_ends`` are sample indices into ``samples``. ``language`` and ``target`` are those of the
    prompt. ``known`` is False where nobody knows what is said, though something is.
    """

    samples: Tensor
    words: list[str]
    word_ends: list[int]
    language: str
    target: str
    translation: str
    known: bool = True
    expected: bool = True  # False: an empty answer, whatever is heard


@dataclass(frozen=True)
class Batch:
    """Padded tensors of B rows.

    audio: float [B, S], S a multiple of 2 560. tokens: int [B], soft tokens that count in each row.
    before: int [B, P], prompts, PADDING in front. answers: int [B, L], padded with IGNORE; targets:
    the same, IGNORE also where nothing is to be learnt. letters: int [B, N] and letter_counts: int
    [B] for CTC; lettered: bool [B], rows whose letters are known. features: float [B, K, D] instead
    of audio, where the encoder has been run beforehand. places: int [B, L, 2], the first and last
    soft token that may hold each token of the answers, -1 where it is said nowhere.
    """

    audio: Tensor
    tokens: Tensor
    before: Tensor
    answers: Tensor
    targets: Tensor
    letters: Tensor
    letter_counts: Tensor
    lettered: Tensor
    features: Tensor | None = None
    places: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same batch elsewhere."""
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {k: v.to(device, non_blocking=True) for k, v in held.items() if v is not None}
        return Batch(**moved)


class Row(NamedTuple):
    """A row before padding. ``tokens`` is how many soft tokens of ``samples`` are heard; ``given``
    is how much of the answer is not to be learnt.
    """

    samples: Tensor
    tokens: int
    direction: tuple[str, str]
    answer: list[int]
    given: int
    letters: list[int]
    lettered: bool
    places: Sequence[tuple[int, int]] = ()


def heard_words(word_ends: Sequence[int], tokens: int) -> int:
    """How many words have ended, for a listener who has ``tokens`` soft tokens."""
    heard = tokens * CHUNK_SAMPLES - UNHEARD_SAMPLES - MARGIN_SAMPLES
    return sum(end <= heard for end in word_ends)


def sayable(translation: str, heard: int, words: int) -> str:
    """The part of ``translation`` that may be told after ``heard`` of so many ``words``."""
    if heard == words:
        return translation
    told = translation.split()
    return " ".join(told[: max(0, len(told) * heard // words - 1)])


class Batcher:
    """Makes batches; the same ``rng`` state makes the same batch."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        cut_share: float = CUT_SHARE,
        directions: Iterable[tuple[str, str]] = tuple(permutations(LANGUAGES, 2)),
    ) -> None:
        self._tokenizer, self._cut_share = tokenizer, cut_share
        self._prompts = {pair: prompts.build(tokenizer, *pair) for pair in directions}

    def prompt(self, language: str, target: str) -> Prompt:
        """The prompt of a direction."""
        return self._prompts[language, target]

    def __call__(self, spoken: Sequence[Spoken], rng: random.Random) -> Batch:
        """Draws where each utterance is cut, and pads to the longest."""
        rows = [self.row(one, rng) for one in spoken]
        return self.heard(rows, max(row.tokens for row in rows))

    def row(self, one: Spoken, rng: random.Random) -> Row:
        """Draws where the utterance is cut, if it is."""
        return self._row(one, -(-len(one.samples) // CHUNK_SAMPLES) + rng.randrange(2), rng)

    def heard(self, rows: Sequence[Row], tokens: int) -> Batch:
        """Pads the audio of rows to the length of so many soft tokens, at least their most."""
        audio = torch.zeros(len(rows), tokens * CHUNK_SAMPLES)
        for place, row in zip(audio, rows, strict=True):
            samples = row.samples[: row.tokens * CHUNK_SAMPLES]
            place[: len(samples)] = samples
        return replace(self._batch(rows), audio=audio)

    def written(self, texts: Sequence[tuple[str, str, str, str]], rng: random.Random) -> Batch:
        """A batch without audio, of (language, target, text, translation)."""
        rows = []
        for language, target, text, translation in texts:
            words = text.split()
            n = rng.randrange(len(words)) if rng.random() < CUT_TEXT_SHARE else len(words)
            told = sayable(translation, n, len(words))
            answer = self.answer((language, target), " ".join(words[:n]), told)
            given = len(self._tokenizer.encode(" ".join(words[:n])))
            rows.append(Row(_SILENCE, 0, (language, target), answer, given, [], False))
        return self._batch(rows)

    def answer(self, direction: tuple[str, str], transcript: str, translation: str) -> list[int]:
        """Ids of a whole answer, its end included."""
        prompt = self._prompts[direction]
        ids = self._tokenizer.encode(transcript) + list(prompt.separator)
        ids += self._tokenizer.encode(" " + translation) if translation else []
        return [*ids, prompt.stop[0]]

    def _row(self, one: Spoken, whole: int, rng: random.Random) -> Row:
        cut = rng.random() < self._cut_share
        tokens = rng.randint(1, whole) if cut else whole
        n = heard_words(one.word_ends, tokens) if cut else len(one.words)
        transcript = " ".join(one.words[:n])
        said = (
            (transcript, sayable(one.translation, n, len(one.words))) if one.expected else ("", "")
        )
        direction = one.language, one.target
        answer = self.answer(direction, *said)
        where = self._places(one, n, tokens) if one.expected else ()
        return Row(one.samples, tokens, direction, answer, 0, letters(transcript), one.known, where)

    def _places(self, one: Spoken, words: int, tokens: int) -> list[tuple[int, int]]:
        """Where the tokens of the first ``words`` are, in ``tokens`` soft tokens."""
        text = " ".join(one.words[:words])
        times = _character_times(one.words[:words], one.word_ends)
        places, at = [], 0
        for token in self._tokenizer.encode(text):
            end = min(at + len(self._tokenizer.piece(token)), len(text))
            first = times[min(at, len(text) - 1)] // CHUNK_SAMPLES
            last = (times[end] + UNHEARD_SAMPLES) // CHUNK_SAMPLES + LATE_TOKENS
            places.append((min(first, tokens - 1), min(last, tokens - 1)))
            at = end
        return places

    def _batch(self, rows: Sequence[Row]) -> Batch:
        answers = _padded([row.answer for row in rows], IGNORE)
        targets = answers.clone()
        for target, row in zip(targets, rows, strict=True):
            target[: row.given] = IGNORE
        befores = [self._prompts[row.direction].before for row in rows]
        longest = max(map(len, befores))
        return Batch(
            audio=torch.zeros(len(rows), 0),
            tokens=torch.tensor([row.tokens for row in rows]),
            before=torch.tensor([[PADDING] * (longest - len(one)) + [*one] for one in befores]),
            answers=answers,
            targets=targets,
            letters=_padded([row.letters for row in rows], 0),
            letter_counts=torch.tensor([len(row.letters) for row in rows]),
            lettered=torch.tensor([row.lettered for row in rows]),
            places=_placed(rows, answers.shape[1]),
        )


def letters(text: str) -> list[int]:
    """CTC targets of ``text``: 1-based indices into LETTERS (0 is the blank)."""
    found = []
    for c in text.lower():
        # A letter whose accent is none of the five languages' counts without it.
        bare = c if c in LETTERS else unicodedata.normalize("NFD", c)[0]
        if bare in LETTERS:
            found.append(LETTERS.index(bare) + 1)
    return found


def _character_times(words: Sequence[str], ends: Sequence[int]) -> list[int]:
    """When each character of the words, joined by spaces, begins, in samples; then the last end."""
    times, before = [], 0
    for word, end in zip(words, ends, strict=False):
        start = max(before, end - len(word) * SLOW_SAMPLES)
        times += [start + (end - start) * i // len(word) for i in range(len(word))] + [end]
        before = end
    return times


def _placed(rows: Sequence[Row], length: int) -> Tensor:
    places = torch.full((len(rows), length, 2), -1)
    for place, row in zip(places, rows, strict=True):
        if row.places:
            place[: len(row.places)] = torch.tensor(row.places)
    return places


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    out = torch.full((len(rows), max(1, max(map(len, rows)))), value)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return out
