"""Noises at a given distance below speech, and sounds in which nobody speaks a known language.

All are drawn from a seed, so a set is the same each time; none is used in training, whose noises
`training.augment` makes.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from evaluation.sets import FLOOR, Clip
from training.foreign import LANGUAGES as FOREIGN
from training.speech_parts import SAMPLE_RATE_HZ

LEVEL = 0.05  # root mean square of a sound by itself: -26 dBFS
VOICES = 6  # of a babble
NOTES_HZ = 220 * 2 ** (np.array([0, 2, 3, 5, 7, 8, 10, 12]) / 12)  # A minor
BEAT_S = 0.4


def pink(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise whose power falls by 3 dB an octave, float32 [S] of `LEVEL`."""
    spectrum = np.fft.rfft(rng.normal(size=samples))
    spectrum /= np.sqrt(np.maximum(1, np.arange(len(spectrum))))
    return _levelled(np.fft.irfft(spectrum, samples))


def babble(samples: int, rng: np.random.Generator, voices: Sequence[np.ndarray]) -> np.ndarray:
    """Some of ``voices`` at once, each over and over from anywhere, float32 [S] of `LEVEL`.

    Raises ValueError where there are none.
    """
    if not voices:
        raise ValueError("nobody is there to babble: give clips of other voices")
    mixed = np.zeros(samples)
    for index in rng.choice(len(voices), min(VOICES, len(voices)), replace=False):
        repeated = np.resize(voices[index], samples)
        mixed += np.roll(repeated, rng.integers(samples)) / np.std(voices[index])
    return _levelled(mixed)


def noisy(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Speech with ``noise``, so many dB below the speech where that is spoken; float32 [S].

    How loud speech is is measured over the loudest half of its 20 ms frames, so pauses do not make
    it quieter.
    """
    gain = _speech_level(samples) / max(1e-9, np.std(noise)) * 10 ** (-snr_db / 20)
    mixed = samples + gain * noise
    return (mixed / max(1.0, np.abs(mixed).max())).astype(np.float32)


def with_noise(clip: Clip, kind: str, snr_db: float, others: Sequence[Clip]) -> Clip:
    """A clip in `pink` noise or in a `babble` of ``others`` in other voices, drawn by its name."""
    rng = np.random.default_rng(list(clip.name.encode()))
    count = len(clip.samples)
    if kind == "babble":
        voices = [other.samples for other in others if other.voice != clip.voice]
        noise = babble(count, rng, voices)
    else:
        noise = pink(count, rng)
    return clip.heard_as(noisy(clip.samples, noise, snr_db))


def silence(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Digital silence and a quiet room in turn, 5 s each."""
    room = rng.normal(0, FLOOR, samples)
    room[np.arange(samples) // (5 * SAMPLE_RATE_HZ) % 2 == 0] = 0
    return room.astype(np.float32)


def noises(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Pink noise that swells, mains hum, and knocks: float32 [S]."""
    at = np.arange(samples) / SAMPLE_RATE_HZ
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * at / 7)
    hum = sum(np.sin(2 * np.pi * 50 * partial * at) / partial for partial in (1, 2, 3, 5))
    knocks = np.zeros(samples)
    for start in rng.integers(0, max(1, samples - 1600), samples // (2 * SAMPLE_RATE_HZ)):
        knock = rng.normal(size=1600) * np.exp(-np.arange(1600) / 200)
        knocks[start : start + 1600] += knock[: samples - start]
    return _levelled(pink(samples, rng) / LEVEL * swell + 0.3 * hum + 2 * knocks)


def music(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Something like music: chords, a tune with overtones and a drum, float32 [S]."""
    out, beat = np.zeros(samples), int(BEAT_S * SAMPLE_RATE_HZ)
    at = np.arange(beat) / SAMPLE_RATE_HZ
    for start in range(0, samples - beat, beat):
        root = NOTES_HZ[rng.integers(4)] / 2
        tune = rng.choice(NOTES_HZ) * 2
        chord = sum(_tone(root * ratio, at, 1.0) for ratio in (1, 1.2, 1.5))
        drum = rng.normal(size=beat) * np.exp(-at * 60) if start // beat % 2 else 0
        out[start : start + beat] = chord + 1.5 * _tone(tune, at, 4.0) + drum
    return _levelled(out)


def foreign(samples: int, rng: np.random.Generator, folder: Path) -> np.ndarray:
    """Speech in languages that no bundled model knows, with pauses; float32 [S]. Raises
    FileNotFoundError where `training.foreign` never made it.
    """
    paths = [folder / "foreign-test" / "espeak" / f"{language}.npy" for language in FOREIGN]
    every = np.concatenate([np.load(path) for path in paths]).astype(np.float32) / 2**15
    return np.resize(every, samples)


def sounds(folder: Path) -> dict[str, Callable[[int, np.random.Generator], np.ndarray]]:
    """What nothing shall be understood in, by name: functions of a length in samples."""
    return {
        "silence": silence,
        "noise": noises,
        "music": music,
        "foreign speech": lambda samples, rng: foreign(samples, rng, folder),
    }


def pieces(samples: np.ndarray) -> Iterator[np.ndarray]:
    """Seconds of it, as a source gives them."""
    for start in range(0, len(samples), SAMPLE_RATE_HZ):
        yield samples[start : start + SAMPLE_RATE_HZ]


def _tone(hz: float, at: np.ndarray, fade: float) -> np.ndarray:
    partials = sum(np.sin(2 * np.pi * hz * n * at) / n**1.5 for n in range(1, 6))
    return partials * np.exp(-fade * at)


def _speech_level(samples: np.ndarray) -> float:
    frame = SAMPLE_RATE_HZ // 50
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    power = np.sort(np.mean(frames**2, axis=1))
    return float(np.sqrt(power[len(power) // 2 :].mean())) if len(power) else 0.0


def _levelled(samples: np.ndarray) -> np.ndarray:
    return (samples * (LEVEL / max(1e-9, np.std(samples)))).astype(np.float32)
