"""The spoken corpus: sentences of `training.text` in voices of `training.synthesizers`, in parts.

Place: made in the background by the command below, read through `training.speech_parts` while it
still grows. Clean speech only: `training.augment` is applied when an example is used.

    python -m training.speech --out build/speech --synthesizer espeak --split train --hours 6
    python -m training.speech --out build/speech --synthesizer kokoro --split test --utterances 60

A training part holds about ten minutes in all languages of the synthesizer, an evaluation part the
asked number of utterances of one language. Parts have seeds of their own, appear under their names
only when whole, and are never made again: an interrupted run goes on where it stopped. Parts made
later use the text that is there then.
"""

import argparse
import json
import logging
import multiprocessing
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from training.speech_parts import Record
from training.synthesizers import SYNTHESIZERS, Synthesizer, open_synthesizer
from training.text import LANGUAGES, SPLITS, Sentence, Texts
from training.text.tables import FOLDER
from training.voices import SAMPLE_RATE_HZ, Utterance

PART_SECONDS = 600
MAX_SECONDS = 25
JOINED_SHARE = 0.15
PAUSE_MS = (200, 700)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """What to make: training parts are filled to PART_SECONDS, evaluation parts to a count."""

    split: str
    synthesizer: str
    name: str
    languages: tuple[str, ...]
    utterances: int = 0


def plan(synthesizer: str, split: str, hours: float, utterances: int, seed: int) -> list[Part]:
    """The parts of a command: by hours for training, by utterances a language for evaluation.

    Raises ValueError for a split or synthesizer that is unknown or speaks nothing in the split.
    """
    languages = _spoken(synthesizer, split)
    if split != "train":
        return [
            Part(split, synthesizer, f"s{seed}-{language}", (language,), utterances)
            for language in languages
        ]
    count = max(1, round(hours * 3_600 / PART_SECONDS))
    return [Part(split, synthesizer, f"s{seed}-{n:04}", languages) for n in range(count)]


def build(out: Path, parts: list[Part], text: Path = FOLDER, processes: int = 1) -> None:
    """Make the parts that are not there yet."""
    todo = [(out, part, text) for part in parts if not _finished(out, part)]
    if processes == 1:
        for job in todo:
            _make(*job)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.starmap(_make, todo, chunksize=1)


def speak(
    synthesizer: Synthesizer, voice: object, language: str, sentences: list[Sentence], rng
) -> tuple[np.ndarray, list[int], list[int]]:
    """Samples, word starts and word ends of sentences with pauses between them."""
    pieces: list[np.ndarray] = []
    starts: list[int] = []
    ends: list[int] = []
    length = 0
    for sentence in sentences:
        if pieces:
            pieces.append(np.zeros(rng.randint(*PAUSE_MS) * SAMPLE_RATE_HZ // 1_000, np.int16))
            length += len(pieces[-1])
        spoken: Utterance = synthesizer.speak(sentence.texts[language], voice)
        pieces.append(spoken.samples)
        starts += [length + at for at in spoken.word_starts_samples]
        ends += [length + at for at in spoken.word_ends_samples]
        length += len(spoken.samples)
    return np.concatenate(pieces), starts, ends


def _spoken(synthesizer: str, split: str) -> tuple[str, ...]:
    if split not in SPLITS or synthesizer not in SYNTHESIZERS:
        raise ValueError(
            f"got split {split!r} and synthesizer {synthesizer!r}, expected one of {SPLITS} and "
            f"of {sorted(SYNTHESIZERS)}"
        )
    languages = open_synthesizer(synthesizer).languages(split)
    if not languages:
        raise ValueError(f"{synthesizer} speaks nothing in {split}; choose another synthesizer")
    return languages


def _path(out: Path, part: Part) -> Path:
    return out / part.split / part.synthesizer / f"{part.name}.npy"


def _finished(out: Path, part: Part) -> bool:
    return _path(out, part).with_suffix(".jsonl").exists()


def _make(out: Path, part: Part, text: Path) -> None:
    """Speak one part; the .jsonl appears last, so a part that has one is whole."""
    path = _path(out, part)
    path.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    samples, lines = [], []
    for spoken, record in _utterances(part, Texts(text)):
        samples.append(spoken)
        lines.append(json.dumps(asdict(record), ensure_ascii=False))
    temporary = path.with_suffix(".tmp.npy")
    np.save(temporary, np.concatenate(samples))
    temporary.rename(path)
    temporary = path.with_suffix(".tmp")
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    temporary.rename(path.with_suffix(".jsonl"))
    minutes = sum(map(len, samples)) / SAMPLE_RATE_HZ / 60
    _log.info("%s: %.1f min in %.0f s", path, minutes, time.monotonic() - begin)


def _utterances(part: Part, texts: Texts) -> Iterator[tuple[np.ndarray, Record]]:
    """Utterances of a part. Those that the synthesizer refuses, or that are too long, are drawn
    anew; a synthesizer that refuses many is at fault, and its error is raised.
    """
    rng = random.Random(f"{part.name}-{part.split}-{part.synthesizer}")
    synthesizer = open_synthesizer(part.synthesizer)
    sentences = _sentences(part, texts, rng)
    count = seconds = refused = 0
    while (count < part.utterances) if part.utterances else (seconds < PART_SECONDS):
        language = rng.choice(part.languages)
        said = next(sentences)
        voice = synthesizer.draw(rng, language, part.split)
        try:
            samples, starts, ends = speak(synthesizer, voice, language, said, rng)
        except (RuntimeError, ValueError):
            refused += 1
            if refused > 20 + count // 10:
                raise
            continue
        if len(samples) > MAX_SECONDS * SAMPLE_RATE_HZ:
            continue
        count += 1
        seconds += len(samples) / SAMPLE_RATE_HZ
        joined = {lang: " ".join(s.texts[lang] for s in said) for lang in LANGUAGES}
        yield samples, Record(
            len(samples), language, joined, [s.id for s in said], part.synthesizer, str(voice),
            part.synthesizer == "espeak", starts, ends,
        )  # fmt: skip


def _sentences(part: Part, texts: Texts, rng: random.Random) -> Iterator[list[Sentence]]:
    """For training one sentence, or two or three; for evaluation single ones, none twice."""
    if part.split != "train":
        kept = texts.held_out(part.split)
        for sentence in rng.sample(kept, len(kept)):
            yield [sentence]
        raise ValueError(
            f"{part.name} asks for {part.utterances} utterances; {part.split} has only "
            f"{len(kept)} sentences; ask for fewer"
        )
    while True:
        count = rng.choice((2, 2, 3)) if rng.random() < JOINED_SHARE else 1
        yield [texts.draw(rng, part.split) for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Make speech for training or evaluation.")
    parser.add_argument("--out", type=Path, default=Path("build/speech"))
    parser.add_argument("--synthesizer", choices=sorted(SYNTHESIZERS), required=True)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--hours", type=float, default=1.0, help="of training speech")
    parser.add_argument("--utterances", type=int, default=60, help="a language, for evaluation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--text", type=Path, default=FOLDER, help="folder of the tables")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parts = plan(
        options.synthesizer, options.split, options.hours, options.utterances, options.seed
    )
    build(options.out, parts, options.text, options.processes)


if __name__ == "__main__":
    main()
