"""All speech synthesizers behind one interface: draw a voice of a split, speak a text with it.

Place: between the modules `training.voices*` and `training.speech`, which builds the corpus.
`open_synthesizer(name)` imports only what that synthesizer needs.

Unusual: only espeak-ng tells when each word is spoken. For the others `estimate_words` shares the
time that is not silent among the words by their length, so a long pause moves no word.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from training.voices import ACCENTS, SAMPLE_RATE_HZ, Utterance, Voice, draw_voice
from training.voices import Synthesizer as EspeakLibrary

_FRAME = SAMPLE_RATE_HZ // 100  # 10 ms
_SPOKEN = 0.02  # of the loudest frame: quieter is silence
_EDGE_SAMPLES = 960  # kept on either side of the speech: quiet consonants are below the limit
_SYLLABLE = re.compile("[aeiouyàáâãäèéêëìíîïòóôõöùúûüœæ]+")
_NATIVE = {"en": "ab", "es": "e", "fr": "f", "it": "i", "pt": "p"}  # first letters of styles
_DEV_STYLES = ("af_sky", "am_onyx")
_MIXED_SHARE, _NATIVE_SHARE = 0.7, 0.6
_KOKORO_SPEED = (0.8, 1.25)
_PICO = {"en": ("en", "en-GB"), "es": ("es",), "fr": ("fr",), "it": ("it",)}
_PICO_SPEED, _PICO_PITCH = (0.75, 1.3), (0.7, 1.4)


class Synthesizer(Protocol):
    """What the corpus needs of a synthesizer."""

    def languages(self, split: str) -> tuple[str, ...]:
        """The languages that it speaks in this split."""
        ...

    def draw(self, rng: random.Random, language: str, split: str) -> Any:
        """A random voice of the split; str(voice) says all about it."""
        ...

    def speak(self, text: str, voice: Any) -> Utterance:
        """The text in this voice at 16 kHz, cut to the speech, with a little silence around."""
        ...


class Espeak:
    """espeak-ng: five languages, families of voices held out."""

    def __init__(self):
        self._library = EspeakLibrary()

    def languages(self, split: str) -> tuple[str, ...]:
        return tuple(ACCENTS)

    def draw(self, rng: random.Random, language: str, split: str) -> Voice:
        return draw_voice(rng, language, split)

    def speak(self, text: str, voice: Voice) -> Utterance:
        return self._library.speak(text, voice)


@dataclass(frozen=True)
class KokoroVoice:
    """weights: of Kokoro's styles, which sum to 1; one style is a speaker of the model, several
    are a new one.
    """

    language: str
    weights: tuple[tuple[str, float], ...]
    speed: float

    def __str__(self) -> str:
        mixed = "+".join(f"{weight:.2f}*{style}" for style, weight in self.weights)
        return f"{mixed}@{self.speed:.2f}"


class Kokoro:
    """Kokoro-82M: every style speaks every language; dev and test have styles of their own."""

    def __init__(self, folder: Path = Path("build/kokoro")):
        from training import voices_kokoro

        self._model = voices_kokoro.Kokoro(folder)
        kept = voices_kokoro.HELD_OUT_STYLES
        self._styles = {
            "train": voices_kokoro.TRAIN_STYLES,
            "dev": tuple(style for style in kept if style in _DEV_STYLES),
            "test": tuple(style for style in kept if style not in _DEV_STYLES),
        }

    def languages(self, split: str) -> tuple[str, ...]:
        return tuple(ACCENTS)

    def draw(self, rng: random.Random, language: str, split: str) -> KokoroVoice:
        """A style or a mixture of two, as a rule with one that is at home in the language."""
        first = rng.choice(self._home(rng, language, split))
        must_mix = language == "fr" and split != "train"
        if not must_mix and rng.random() >= _MIXED_SHARE:
            return KokoroVoice(language, ((first, 1.0),), rng.uniform(*_KOKORO_SPEED))
        share = rng.uniform(0.5, 0.8)
        second = rng.choice([style for style in self._styles[split] if style != first])
        weights = ((first, share), (second, 1 - share))
        return KokoroVoice(language, weights, rng.uniform(*_KOKORO_SPEED))

    def _home(self, rng: random.Random, language: str, split: str) -> list[str]:
        """Styles to draw the first one from. Only the French style has a French r, so it has a part
        in every French voice, even in a held-out one, whose other part training never meets.
        """
        if language == "fr":
            return ["ff_siwis"]
        native = [style for style in self._styles[split] if style[0] in _NATIVE[language]]
        return native if native and rng.random() < _NATIVE_SHARE else list(self._styles[split])

    def speak(self, text: str, voice: KokoroVoice) -> Utterance:
        styles = [weight * self._model.styles[name] for name, weight in voice.weights]
        style = np.sum(styles, axis=0)
        return timed(text, self._model.speak(text, voice.language, style, voice.speed))


@dataclass(frozen=True)
class PicoVoice:
    """One of Pico's voices, faster or slower, higher or lower; 1 as designed."""

    name: str
    speed: float
    pitch: float

    def __str__(self) -> str:
        return f"{self.name}@{self.speed:.2f},{self.pitch:.2f}"


class Pico:
    """SVOX Pico: four languages of the five. Its French is kept for the test of an unheard
    synthesizer.
    """

    def __init__(self):
        from training import voices_pico

        self._speak = voices_pico.speak

    def languages(self, split: str) -> tuple[str, ...]:
        return {"train": ("en", "es", "it"), "dev": ("en", "es", "it"), "test": ("fr",)}[split]

    def draw(self, rng: random.Random, language: str, split: str) -> PicoVoice:
        name = rng.choice(_PICO[language])
        return PicoVoice(name, rng.uniform(*_PICO_SPEED), rng.uniform(*_PICO_PITCH))

    def speak(self, text: str, voice: PicoVoice) -> Utterance:
        return timed(text, self._speak(text, voice.name, voice.speed, voice.pitch))


class Debian:
    """flite and festival: English and Italian, kept for the test of an unheard synthesizer."""

    def __init__(self):
        from training import voices_debian

        self._module = voices_debian

    def languages(self, split: str) -> tuple[str, ...]:
        return ("en", "it") if split == "test" else ()

    def draw(self, rng: random.Random, language: str, split: str) -> str:
        voices = self._module.VOICES.items()
        return rng.choice([name for name, voice in voices if voice.language == language])

    def speak(self, text: str, voice: str) -> Utterance:
        return timed(text, self._module.speak(text, voice))


SYNTHESIZERS: dict[str, Callable[..., Synthesizer]] = {
    "debian": Debian,
    "espeak": Espeak,
    "kokoro": Kokoro,
    "pico": Pico,
}


def open_synthesizer(name: str) -> Synthesizer:
    """Raises KeyError for a name that is none of SYNTHESIZERS."""
    if name not in SYNTHESIZERS:
        raise KeyError(f"unknown synthesizer: got {name!r}, expected one of {sorted(SYNTHESIZERS)}")
    return SYNTHESIZERS[name]()


def timed(text: str, samples: np.ndarray) -> Utterance:
    """int16 [S] of spoken text -> cut to the speech, with estimated times of its words.

    Raises ValueError when nothing is heard.
    """
    level = _levels(samples)
    spoken = np.flatnonzero(level > _SPOKEN * level.max()) if level.any() else []
    if not len(spoken):
        raise ValueError(f"expected speech for {text!r}, got silence; leave the voice or text out")
    begin = max(0, int(spoken[0]) * _FRAME - _EDGE_SAMPLES)
    end = min(len(samples), (int(spoken[-1]) + 1) * _FRAME + _EDGE_SAMPLES)
    samples = samples[begin:end]
    return Utterance(samples, *estimate_words(text, samples))


def estimate_words(text: str, samples: np.ndarray) -> tuple[list[int], list[int]]:
    """Starts and ends in samples of the whitespace-separated words of the text.

    Frames that are not silent are shared among the words in proportion to `_weight`; the first word
    starts with the first such frame and the last ends with the last one.
    """
    level = _levels(samples)
    spoken = np.flatnonzero(level > _SPOKEN * level.max())
    weights = np.array([_weight(word) for word in text.split()], float)
    shares = np.concatenate([[0.0], np.cumsum(weights) / weights.sum()]) * len(spoken)
    firsts = np.minimum(np.floor(shares[:-1]).astype(int), len(spoken) - 1)
    lasts = np.clip(np.ceil(shares[1:]).astype(int) - 1, firsts, len(spoken) - 1)
    starts = [int(spoken[i]) * _FRAME for i in firsts]
    ends = [min((int(spoken[i]) + 1) * _FRAME, len(samples)) for i in lasts]
    return starts, ends


def _weight(word: str) -> int:
    """How long a word is: its letters, its syllables, and more before a pause."""
    letters = sum(letter.isalpha() for letter in word)
    return max(1, letters + len(_SYLLABLE.findall(word.lower())) + 2 * (word[-1] in ",.?!"))


def _levels(samples: np.ndarray) -> np.ndarray:
    """Root mean square of each 10 ms frame; a last part of a frame counts as one."""
    padded = np.pad(samples.astype(np.float32), (0, -len(samples) % _FRAME))
    return np.sqrt((padded.reshape(-1, _FRAME) ** 2).mean(1))
