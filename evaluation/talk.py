"""A talk: held-out sentences in one held-out voice, with pauses, and who says what when.

A synthesizer speaks it once and it is kept; all directions of its language use the same one.
"""

import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from training import grammar
from training.speech_parts import SAMPLE_RATE_HZ
from training.synthesizers import open_synthesizer
from training.text import Texts

PAUSE_MS = (500, 1_500)
# The first that speaks a language in its test split is taken: the more like a person the better.
SPEAKERS = ("kokoro", "espeak")
ROOM = 3e-4  # -70 dBFS, between the sentences and under them


@dataclass(frozen=True)
class Sentence:
    """What is said from sample ``start`` to ``end``; ``texts`` by language."""

    start: int
    end: int
    texts: dict[str, str]


@dataclass(frozen=True)
class Talk:
    """``samples`` float32 [S] at 16 kHz, and its sentences in order."""

    samples: np.ndarray
    language: str
    voice: str
    sentences: list[Sentence]

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ


def talk(
    folder: Path,
    language: str,
    minutes: float,
    synthesizer: str | None = None,
    sentences: Sequence[Mapping[str, str]] | None = None,
) -> Talk:
    """The talk kept in ``folder``, or a new one, of the test split's sentences or of ``sentences``
    by language. Raises what its synthesizer raises.
    """
    path = folder / f"{language}-{minutes:g}min.safetensors"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _save(_spoken(language, minutes, synthesizer, sentences), path)
    return _load(path)


def grammar_sentences(minutes: float) -> list[dict[str, str]]:
    """Sentences of the test split of `training.grammar`, which the first bundled model knows; more
    than fill so many minutes.
    """
    rng, found = random.Random("talk"), []
    while len(found) < 40 * minutes:
        sentence = grammar.sample(rng)
        if grammar.split(sentence) == "test":
            found.append({"es": sentence.spanish, "en": sentence.english})
    return found


def _spoken(
    language: str,
    minutes: float,
    synthesizer: str | None,
    sentences: Sequence[Mapping[str, str]] | None,
) -> Talk:
    """Sentences in random order, until the talk is long enough."""
    rng = random.Random(f"talk {language}")
    name = synthesizer or _speaker(language)
    speaker = open_synthesizer(name)
    voice = speaker.draw(rng, language, "test")
    known = sentences or [sentence.texts for sentence in Texts().held_out("test")]
    said = rng.sample(known, len(known))
    pieces, spoken_so_far, length = [_pause(rng)], list[Sentence](), 0
    while length < minutes * 60 * SAMPLE_RATE_HZ:
        length = sum(map(len, pieces))
        texts = dict(said.pop())
        try:
            spoken = speaker.speak(texts[language], voice).samples
        except (RuntimeError, ValueError):
            continue  # it cannot say this one
        spoken_so_far.append(Sentence(length, length + len(spoken), texts))
        pieces += [spoken.astype(np.float32) / 2**15, _pause(rng)]
        length += len(pieces[-1]) + len(pieces[-2])
    samples = np.concatenate(pieces)
    samples += np.random.default_rng(1).normal(0, ROOM, len(samples)).astype(np.float32)
    return Talk(samples, language, f"{name} {voice}", spoken_so_far)


def _speaker(language: str) -> str:
    """The best synthesizer that can be opened here."""
    for name in SPEAKERS[:-1]:
        try:
            if language in open_synthesizer(name).languages("test"):
                return name
        except (ImportError, OSError, RuntimeError):
            continue  # its model or its package is not here
    return SPEAKERS[-1]


def _pause(rng: random.Random) -> np.ndarray:
    return np.zeros(rng.randint(*PAUSE_MS) * SAMPLE_RATE_HZ // 1_000, np.float32)


def _save(spoken: Talk, path: Path) -> None:
    about = {
        "language": spoken.language,
        "voice": spoken.voice,
        "sentences": json.dumps([asdict(sentence) for sentence in spoken.sentences]),
    }
    half = path.with_suffix(".half")
    save_file({"samples": spoken.samples}, half, metadata=about)
    os.replace(half, path)


def _load(path: Path) -> Talk:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        about = file.metadata()
    sentences = [Sentence(**sentence) for sentence in json.loads(about["sentences"])]
    return Talk(load_file(path)["samples"], about["language"], about["voice"], sentences)
