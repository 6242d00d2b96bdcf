"""Endless batches for the trainer: drawn, put into rooms and noise, cut, padded.

Place: between stored speech (`training.speech_parts`), text (`training.text`) and the loop. Beside
speech in the prompt's language there are examples whose answer is empty: no speech at all, speech
in a language that the model does not know, and speech in another language than the prompt's.

Unusual: a batch is filled to so many seconds of audio, not to so many rows; batches have few shapes
(`Shelves`), so that the encoder can be compiled for each; and a stream can run in worker processes,
each of which draws for itself (where a GPU would wait for one).
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from training.augment import Augmenter
from training.batch import CHUNK_SAMPLES, Batch, Batcher, Row, Spoken
from training.draws import Draws
from training.nano import LANGUAGES
from training.speech_parts import SAMPLE_RATE_HZ, Example, Speech
from training.text import Texts

SHORTEST = 6  # soft tokens of a batch
CLEAN_SHARE = 0.3
CLEAN_START = 12_000  # utterances until clean ones have become that rare
NOTHING_SHARE = 0.035  # silence, noise, tones
FOREIGN_SHARE = 0.025  # languages that nobody asks for
MISTAKEN_SHARE = 0.015  # another language than the prompt's
SECOND_SHARE = 0.06  # with another voice far behind
REFRESH = 2_000  # utterances between two looks for new parts
BABBLE = 60


class Shelves:
    """Rows of about the same length wait together until they are a batch of so many seconds.

    Batches of one length have one number of rows, and there are few lengths, each a fifth longer
    than the one before.
    """

    def __init__(self, seconds: float) -> None:
        self._tokens = seconds * SAMPLE_RATE_HZ / CHUNK_SAMPLES
        self._waiting: defaultdict[int, list[Row]] = defaultdict(list)

    def add(self, row: Row) -> tuple[list[Row], int] | None:
        """The batch that this row completes, and its length in soft tokens."""
        length = shelf_of(row.tokens)
        self._waiting[length].append(row)
        if len(self._waiting[length]) < max(1, int(self._tokens // length)):
            return None
        return self._waiting.pop(length), length


def shelf_of(tokens: int) -> int:
    """The least length of a batch, in soft tokens, that a row of so many fits into."""
    length = SHORTEST
    while length < tokens:
        length += -(-length // 5)
    return length


@dataclass
class Stream:
    """Batches of heard speech, from utterance ``seen`` of all of training on.

    seconds: of audio in a batch. share: the part of all utterances that come through this stream.
    """

    speech: Path
    text: Path
    batcher: Batcher
    seconds: float
    seed: int
    seen: int = 0
    share: float = 1.0
    augment: bool = True

    def heard(self) -> Iterator[Batch]:
        """Batches of speech."""
        source, shelves = Source(self, self._seed()), Shelves(self.seconds)
        while True:
            row = self.batcher.row(source.spoken(), source.rng)
            if full := shelves.add(row):
                yield self.batcher.heard(*full)

    def written(self, rows: int) -> Iterator[Batch]:
        """Batches of ``rows`` sentences that are read, not heard."""
        rng, drawn, texts = random.Random(f"{self._seed()}-text"), 0, Texts(self.text)
        while True:
            if drawn > 20 * REFRESH:
                drawn, texts = 0, Texts(self.text)
            drawn += rows
            yield self.batcher.written([pair(texts, rng) for _ in range(rows)], rng)

    def _seed(self) -> str:
        worker = get_worker_info()
        return f"{self.seed}-{worker.id if worker else 0}"


class Source:
    """What one process draws from: speech, foreign speech, effects, and one random state."""

    def __init__(self, stream: Stream, seed: str) -> None:
        self.rng = random.Random(seed)
        self._stream, self._seen, self._looked = stream, float(stream.seen), float(stream.seen)
        kept = Speech(stream.speech, "dev").records + Speech(stream.speech, "test").records
        self._speech = Draws(Speech(stream.speech, "train", apart_from=kept))
        self._foreign = Draws(Speech(stream.speech, "foreign"))
        if not len(self._speech):
            raise FileNotFoundError(
                f"no training speech in {stream.speech}: expected train/SYNTHESIZER/*.jsonl; "
                "make some with python -m training.speech"
            )
        babble = [_level(self._speech(self.rng)) for _ in range(BABBLE)]
        self._augmenter = Augmenter(self.rng.randrange(2**31), babble)

    def spoken(self) -> Spoken:
        """One utterance as it is heard, or what stands for none."""
        rng, self._seen = self.rng, self._seen + 1 / self._stream.share
        if self._seen - self._looked > REFRESH:
            self._looked = self._seen
            self._speech.refresh()
        clean = max(CLEAN_SHARE, 1 - self._seen / CLEAN_START)
        augmenter = self._augmenter if self._stream.augment and rng.random() > clean else None
        kind = rng.random()
        if kind < NOTHING_SHARE:
            return self._nothing()
        if kind < NOTHING_SHARE + FOREIGN_SHARE and len(self._foreign):
            return self._unknown(augmenter)
        spoken = self._heard(self._speech(rng), augmenter)
        if kind > 1 - MISTAKEN_SHARE:
            others = [one for one in LANGUAGES if one != spoken.language]
            language = rng.choice(others)
            return replace(
                spoken, language=language, target=target_of(language, rng), expected=False
            )
        return spoken

    def _heard(self, example: Example, augmenter: Augmenter | None) -> Spoken:
        rng = self.rng
        behind = None
        if augmenter is not None and rng.random() < SECOND_SHARE:
            behind = _level(self._speech(rng))
        target = target_of(example.language, rng)
        return augmented(example, target, rng, augmenter, behind)

    def _nothing(self) -> Spoken:
        language = self.rng.choice(LANGUAGES)
        samples = self._augmenter.nothing(round(self.rng.uniform(0.5, 8) * SAMPLE_RATE_HZ))
        return Spoken(samples, [], [], language, target_of(language, self.rng), "")

    def _unknown(self, augmenter: Augmenter | None) -> Spoken:
        language = self.rng.choice(LANGUAGES)
        target = target_of(language, self.rng)
        heard = augmented(self._foreign(self.rng), target, self.rng, augmenter)
        return replace(heard, language=language, known=False, expected=False)


def loader(batches: Callable[[], Iterator[Batch]], workers: int) -> Iterator[Batch]:
    """Batches made in so many processes beside this one, or (0) in this one."""
    if not workers:
        return batches()
    return iter(
        DataLoader(
            _Workers(batches),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=4,
            pin_memory=torch.cuda.is_available(),
        )
    )


class _Workers(IterableDataset):
    """Endless batches as torch's loader wants them."""

    def __init__(self, batches: Callable[[], Iterator[Batch]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Batch]:
        return self._batches()


def target_of(language: str, rng: random.Random) -> str:
    """A language into which the model translates ``language``."""
    return "en" if language != "en" else rng.choice(LANGUAGES[1:])


def pair(texts: Texts, rng: random.Random) -> tuple[str, str, str, str]:
    """Language, target, a training sentence in the first and in the second."""
    other = rng.choice(LANGUAGES[1:])
    language, target = ("en", other) if rng.random() < 0.5 else (other, "en")
    said = texts.draw(rng, "train").texts
    return language, target, said[language], said[target]


def augmented(
    example: Example,
    target: str,
    rng: random.Random,
    augmenter: Augmenter | None,
    behind: Tensor | None = None,
) -> Spoken:
    """An example in a random room, with silence around it as a segmenter leaves it."""
    lead, tail = rng.randrange(800, 8_000), rng.randrange(3_200, 10_400)
    quiet = torch.nn.functional.pad(_level(example), (lead, tail))
    samples, scale = augmenter(quiet, behind) if augmenter else (quiet, 1.0)
    ends = [round((end + lead) * scale) for end in example.record.word_ends_samples]
    return _spoken(example, target, samples, ends)


def plain(example: Example, target: str) -> Spoken:
    """An example as it was spoken, with a little silence around it."""
    samples = torch.nn.functional.pad(_level(example), (4_800, 6_400))
    ends = [end + 4_800 for end in example.record.word_ends_samples]
    return _spoken(example, target, samples, ends)


def _level(example: Example) -> Tensor:
    """Its samples, float [S] in [-1, 1]."""
    return torch.from_numpy(example.samples).float() / 32_768


def _spoken(example: Example, target: str, samples: Tensor, ends: list[int]) -> Spoken:
    translation = example.record.texts.get(target, "")
    return Spoken(samples, example.words, ends, example.language, target, translation)
