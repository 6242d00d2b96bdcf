"""The spoken corpus: grammar sentences in synthetic voices, stored for random access.

Place: between `training.grammar` and `training.voices` on one side and the training loop on the
other. Clean speech only: `training.augment` is applied when an example is used.

    python -m training.corpus --out build/corpus --utterances 30000 --seed 1

A folder holds, for each of train, dev and test, `NAME.npy` (int16, all utterances end to end) and
`NAME.jsonl` (one utterance a line). Work is cut into parts with seeds of their own, so the result
does not depend on the number of processes, and a build that was interrupted goes on where it
stopped.
"""

import argparse
import functools
import json
import multiprocessing
import random
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.grammar import SPLITS, Sentence, sample, split
from training.voices import (
    DEV_VOICES,
    HELD_OUT_VOICES,
    SAMPLE_RATE_HZ,
    TRAIN_VARIANTS,
    Synthesizer,
    Voice,
    train_voice,
)

DEV_UTTERANCES, TEST_UTTERANCES = 200, 300
_PART = 250  # utterances
_JOINED_SHARE = 0.15
_JOINED_WORDS = 7  # a sentence this short may be joined with another
_PAUSE_MS = (150, 450)


class LeakError(ValueError):
    """A sentence or voice kept for evaluation appears in training."""


@dataclass(frozen=True)
class Record:
    """What is stored of an utterance beside its samples.

    english_words: for n = 0 to the number of Spanish words, how many English words can be said
    after n.
    """

    samples: int
    spanish: str
    english: str
    voice: str
    variant: str
    sentences: list[str]
    word_starts_samples: list[int]
    word_ends_samples: list[int]
    english_words: list[int]


@dataclass(frozen=True)
class Example:
    """One utterance. samples: int16 [S] at 16 kHz; english_prefixes[n]: what can be said after n
    Spanish words.
    """

    samples: Tensor
    words: list[str]
    word_starts_samples: list[int]
    word_ends_samples: list[int]
    spanish: str
    english: str
    english_prefixes: list[str]
    voice: str


class Corpus:
    """One split of a built corpus, as a sequence of examples; the samples stay on disk until asked
    for.
    """

    def __init__(self, folder: Path, name: str):
        lines = _existing(folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        self._path = _existing(folder / f"{name}.npy")
        self.records = [Record(**json.loads(line)) for line in lines]
        self._offsets = np.cumsum([0, *(record.samples for record in self.records)])

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"utterance {index} of {len(self)}")
        record = self.records[index]
        samples = self._samples[self._offsets[index] : self._offsets[index + 1]]
        english = record.english.split()
        return Example(
            torch.from_numpy(samples.copy()),
            record.spanish.split(),
            record.word_starts_samples,
            record.word_ends_samples,
            record.spanish,
            record.english,
            [" ".join(english[:count]) for count in record.english_words],
            record.voice,
        )

    @property
    def seconds(self) -> float:
        return float(self._offsets[-1]) / SAMPLE_RATE_HZ

    def recordings(self, count: int, seed: int) -> list[Tensor]:
        """Random utterances as float [S] in [-1, 1], for `training.augment.Augmenter`'s babble."""
        rng = random.Random(seed)
        return [self[rng.randrange(len(self))].samples.float() / 32_768 for _ in range(count)]

    @functools.cached_property
    def _samples(self) -> np.ndarray:
        return np.load(self._path, mmap_mode="r")

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key != "_samples"}


@dataclass(frozen=True)
class Splits:
    """The three parts of a corpus."""

    train: Corpus
    dev: Corpus
    test: Corpus


def load(folder: Path | str) -> Splits:
    """Open a built corpus. Raises FileNotFoundError that names the command that builds one."""
    folder = Path(folder)
    return Splits(*(Corpus(folder, name) for name in SPLITS))


def build(
    out: Path | str,
    utterances: int = 30_000,
    seed: int = 1,
    dev: int = DEV_UTTERANCES,
    test: int = TEST_UTTERANCES,
    processes: int = 2,
) -> Splits:
    """Make a corpus in `out` and open it; with processes=1 in this process.

    Test utterances are test sentences in held-out voices; dev ones are dev sentences, half in dev
    voices and half in training voices. Raises LeakError if anything meant for evaluation got into
    training.
    """
    out = Path(out)
    parts = out / f"parts-{seed}"
    parts.mkdir(parents=True, exist_ok=True)
    jobs = [
        (parts, name, number, min(_PART, count - number * _PART), seed)
        for name, count in zip(SPLITS, (utterances, dev, test), strict=True)
        for number in range(-(-count // _PART))
    ]
    if processes > 1:
        with multiprocessing.get_context("spawn").Pool(
            processes, torch.set_num_threads, (1,)
        ) as pool:
            pool.starmap(_make_part, jobs, chunksize=1)
    else:
        for job in jobs:
            _make_part(*job)
    for name in SPLITS:
        _join_parts(out, name, [_part_path(*job) for job in jobs if job[1] == name])
    corpus = load(out)
    check_disjoint(corpus)
    shutil.rmtree(parts)
    return corpus


def check_disjoint(corpus: Splits) -> None:
    """Raise LeakError if a dev or test sentence, or a held-out or dev-only variant, occurs in
    training.
    """
    trained = {sentence for record in corpus.train.records for sentence in record.sentences}
    for name, part in (("dev", corpus.dev), ("test", corpus.test)):
        shared = trained & {sentence for record in part.records for sentence in record.sentences}
        if shared:
            raise LeakError(
                f"{len(shared)} {name} sentences are in training, such as {min(shared)!r}"
            )
    reserved = {voice.variant for voice in (*DEV_VOICES, *HELD_OUT_VOICES)}
    used = {record.variant for record in corpus.train.records}
    heard = {record.variant for record in corpus.test.records}
    if used & (reserved | heard):
        raise LeakError(
            f"voices kept for evaluation are in training: {sorted(used & (reserved | heard))}"
        )


def _make_part(parts: Path, name: str, number: int, count: int, seed: int) -> None:
    """Speak one part into two files; a finished part is left alone."""
    path = _part_path(parts, name, number, count, seed)
    if path.with_suffix(".jsonl").exists():
        return
    rng = random.Random(f"{seed}-{name}-{number}")
    synthesizer = Synthesizer()
    pieces, lines, seen = [], [], set()
    while len(lines) < count:
        sentences = _draw(name, rng)
        key = tuple(sentence.spanish for sentence in sentences)
        if name != "train" and key in seen:
            continue
        seen.add(key)
        samples, record = _speak(synthesizer, sentences, _voice(name, rng), rng)
        pieces.append(samples)
        lines.append(json.dumps(asdict(record), ensure_ascii=False))
    np.save(path, np.concatenate(pieces))
    temporary = path.with_suffix(".tmp")
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    temporary.rename(path.with_suffix(".jsonl"))


def _part_path(parts: Path, name: str, number: int, count: int, seed: int) -> Path:
    return parts / f"{name}-{number:04}-{count}.npy"


def _draw(name: str, rng: random.Random) -> list[Sentence]:
    """One sentence of a split, or two short ones."""
    first = _draw_one(name, rng)
    if rng.random() >= _JOINED_SHARE:
        return [first]
    while not _is_short(first):
        first = _draw_one(name, rng)
    second = _draw_one(name, rng)
    while not _is_short(second) or second.spanish == first.spanish:
        second = _draw_one(name, rng)
    return [first, second]


def _is_short(sentence: Sentence) -> bool:
    return len(sentence.spanish.split()) <= _JOINED_WORDS


def _draw_one(name: str, rng: random.Random) -> Sentence:
    while True:
        sentence = sample(rng)
        if split(sentence) == name:
            return sentence


def _voice(name: str, rng: random.Random) -> Voice:
    if name == "test":
        return rng.choice(HELD_OUT_VOICES)
    if name == "dev" and rng.random() < 0.5:
        return rng.choice(DEV_VOICES)
    return train_voice(rng)


def _speak(
    synthesizer: Synthesizer, sentences: list[Sentence], voice: Voice, rng: random.Random
) -> tuple[np.ndarray, Record]:
    """Speak sentences one after the other, with a pause between two."""
    pieces: list[np.ndarray] = []
    starts: list[int] = []
    ends: list[int] = []
    counts = [0]
    length = said = 0
    for sentence in sentences:
        if pieces:
            pause = np.zeros(rng.randint(*_PAUSE_MS) * SAMPLE_RATE_HZ // 1_000, np.int16)
            pieces.append(pause)
            length += len(pause)
        spoken = synthesizer.speak(sentence.spanish, voice)
        pieces.append(spoken.samples)
        starts += [length + at for at in spoken.word_starts_samples]
        ends += [length + at for at in spoken.word_ends_samples]
        length += len(spoken.samples)
        words = len(spoken.word_ends_samples)
        counts += [said + len(sentence.english_prefix(n).split()) for n in range(1, words + 1)]
        said = counts[-1]
    record = Record(
        length,
        " ".join(sentence.spanish for sentence in sentences),
        " ".join(sentence.english for sentence in sentences),
        voice.name,
        voice.variant,
        [sentence.spanish for sentence in sentences],
        starts,
        ends,
        counts,
    )
    return np.concatenate(pieces), record


def _join_parts(out: Path, name: str, parts: Iterable[Path]) -> None:
    """Put parts end to end, through a temporary name, so that a finished file is a whole one."""
    arrays = [np.load(path, mmap_mode="r") for path in parts]
    temporary = out / f"{name}.tmp.npy"
    shape = (sum(len(array) for array in arrays),)
    whole = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.int16, shape=shape)
    position = 0
    for array in arrays:
        whole[position : position + len(array)] = array
        position += len(array)
    whole.flush()
    text = "".join(path.with_suffix(".jsonl").read_text(encoding="utf-8") for path in parts)
    (out / f"{name}.tmp").write_text(text, encoding="utf-8")
    (out / f"{name}.tmp").rename(out / f"{name}.jsonl")
    temporary.rename(out / f"{name}.npy")


def _existing(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(
            f"no corpus file {path}; make one with: python -m training.corpus --out {path.parent}"
        )
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the spoken training corpus.")
    parser.add_argument("--out", type=Path, default=Path("build/corpus"))
    parser.add_argument("--utterances", type=int, default=30_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    begin = time.monotonic()
    corpus = build(options.out, options.utterances, options.seed, processes=options.processes)
    hours = corpus.train.seconds / 3_600
    print(
        f"{len(corpus.train)} training utterances, {hours:.1f} h, {len(TRAIN_VARIANTS)} variants; "
        f"dev {corpus.dev.seconds / 60:.0f} min, test {corpus.test.seconds / 60:.0f} min; "
        f"made in {time.monotonic() - begin:.0f} s"
    )


if __name__ == "__main__":
    main()
