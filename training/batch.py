"""From examples to one padded batch: audio cut at a random moment, and the answer fit for it.

Live decoding asks for the answer to unfinished speech, over and over. So half of the examples are
cut after a random number of soft tokens; their answer holds the words that had ended by then, and
the English that can be said from those words. The encoder is causal, so a cut is simply fewer
tokens.
"""

import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dragoman.models.prompt import Prompt
from dragoman.models.tokenizer import Tokenizer

CHUNK_SAMPLES = 2_560
UNHEARD_SAMPLES = 1_088  # the end of the newest chunk that its soft token does not depend on
MARGIN_SAMPLES = 480  # a word is expected once it ended this long before what was heard
LETTERS = " abcdefghijklmnopqrstuvwxyzáéíóúüñ"
IGNORE = -100


@dataclass(frozen=True)
class Spoken:
    """One utterance as the trainer sees it: ``samples`` float32 [S] after augmentation.

    ``word_ends`` are sample indices into ``samples``; ``english[n]`` is what can be said in English
    after n words.
    """

    samples: Tensor
    words: list[str]
    word_ends: list[int]
    spanish: str
    english: list[str]


@dataclass(frozen=True)
class Batch:
    """Padded tensors of B utterances.

    audio: float [B, S], S a multiple of 2 560. tokens: int [B], soft tokens that count in each row.
    answers: int [B, L], padded with IGNORE. letters: int [B, N] and letter_counts: int [B] for CTC.
    features: float [B, K, D] instead of audio, where the encoder has been run beforehand.
    """

    audio: Tensor
    tokens: Tensor
    answers: Tensor
    letters: Tensor
    letter_counts: Tensor
    features: Tensor | None = None


def heard_words(word_ends: list[int], tokens: int) -> int:
    """How many words have ended, for a listener who has ``tokens`` soft tokens."""
    heard = tokens * CHUNK_SAMPLES - UNHEARD_SAMPLES - MARGIN_SAMPLES
    return sum(end <= heard for end in word_ends)


class Batcher:
    """Makes batches; the same ``rng`` state makes the same batch."""

    def __init__(self, tokenizer: Tokenizer, prompt: Prompt, cut_share: float = 0.5) -> None:
        self._tokenizer, self._prompt, self._cut_share = tokenizer, prompt, cut_share

    def __call__(self, spoken: list[Spoken], rng: random.Random) -> Batch:
        """Draws where each utterance is cut, and pads."""
        wholes = [-(-len(one.samples) // CHUNK_SAMPLES) + rng.randrange(2) for one in spoken]
        batch = self._texts(spoken, wholes, rng)
        audio = torch.zeros(len(spoken), int(batch.tokens.max()) * CHUNK_SAMPLES)
        for row, one, tokens in zip(audio, spoken, batch.tokens.tolist(), strict=True):
            heard = one.samples[: tokens * CHUNK_SAMPLES]
            row[: len(heard)] = heard
        return replace(batch, audio=audio)

    def encoded(self, spoken: list[Spoken], features: list[Tensor], rng: random.Random) -> Batch:
        """The same of utterances that are encoded already: ``features`` float [K, D] each."""
        wholes = [len(one) - rng.randrange(2) for one in features]
        batch = self._texts(spoken, wholes, rng)
        padded = torch.zeros(len(spoken), int(batch.tokens.max()), features[0].shape[1])
        for row, one, tokens in zip(padded, features, batch.tokens.tolist(), strict=True):
            row[:tokens] = one[:tokens]
        return replace(batch, features=padded)

    def _texts(self, spoken: list[Spoken], wholes: list[int], rng: random.Random) -> Batch:
        rows = [self._row(one, whole, rng) for one, whole in zip(spoken, wholes, strict=True)]
        return Batch(
            audio=torch.zeros(len(rows), 0),
            tokens=torch.tensor([row[0] for row in rows]),
            answers=_padded([row[1] for row in rows], IGNORE),
            letters=_padded([row[2] for row in rows], 0),
            letter_counts=torch.tensor([len(row[2]) for row in rows]),
        )

    def answer(self, spanish: str, english: str) -> list[int]:
        """Ids of a whole answer, its end included."""
        ids = self._tokenizer.encode(spanish) + list(self._prompt.separator)
        ids += self._tokenizer.encode(" " + english) if english else []
        return [*ids, self._prompt.stop[0]]

    def _row(self, one: Spoken, whole: int, rng: random.Random) -> tuple[int, list[int], list[int]]:
        cut = rng.random() < self._cut_share
        tokens = rng.randint(1, whole) if cut else whole
        n = heard_words(one.word_ends, tokens) if cut else len(one.words)
        spanish = one.spanish if n == len(one.words) else " ".join(one.words[:n])
        return tokens, self.answer(spanish, one.english[n]), letters(spanish)


def letters(text: str) -> list[int]:
    """CTC targets of ``text``: 1-based indices into LETTERS (0 is the blank)."""
    return [LETTERS.index(c) + 1 for c in text.lower() if c in LETTERS]


def _padded(rows: list[list[int]], value: int) -> Tensor:
    out = torch.full((len(rows), max(1, max(map(len, rows)))), value)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return out
