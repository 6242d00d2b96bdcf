"""Spoken words with exact timings, from espeak-ng through its C library.

Place: one of the synthesizers of `training.synthesizers`, and the voices of `training.corpus`.
Variants are split by *family*, the hand-made groups of near copies that ship with espeak-ng, so
that a held-out voice has no sibling in training, in any language.

Unusual: espeak-ng carries the phase of its oscillators from one utterance to the next, so the same
text sounds slightly different the second time. The library is therefore loaded afresh for every
utterance (about 3 ms), which makes `speak` a pure function of text and voice, and safe after a
fork.
"""

import _ctypes
import ctypes
import ctypes.util
import math
import random
from dataclasses import dataclass

import numpy as np
from scipy.signal import resample_poly

SAMPLE_RATE_HZ = 16_000
LANGUAGES = ("es", "es-419")
ACCENTS = {
    "en": ("en-us", "en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbcwmd", "en-us-nyc"),
    "es": LANGUAGES,
    "fr": ("fr", "fr", "fr-be", "fr-ch"),
    "it": ("it",),
    "pt": ("pt-br", "pt-br", "pt-br", "pt"),
}  # by the names that take a variant; twice where one is commoner

# Left out of all lists: whispers (whisper, whisperf, caleb), robots (UniRobot, anikaRobot,
# robosoft*, RicishayMax*, klatt4), broken or unintelligible formants (Demonic, Lee, Tweaky,
# announcer, boris, croak, fast, kaukovalta, norbert, travis, zac) and plain copies (grandpa and
# "Mr serious" equal john, robosoft4 equals robosoft5).
_MALE = """
    Alex Andy AnxiousAndy Denis Diogo Gene Gene2 Henrique Hugo Jacky Marco Mario Michael Mike
    adam antonio benjamin david ed edward edward2 gustave iven iven2 iven3 iven4 john klatt2
    klatt3 m1 m2 m3 m5 m6 m7 m8 marcelo max michel miguel pedro quincy rob robert victor
"""
_FEMALE = """
    Alicia anika aunty belinda f1 f3 f4 grandma linda shelby steph steph2 steph3
"""
TRAIN_MALE, TRAIN_FEMALE = tuple(_MALE.split()), tuple(_FEMALE.split())
TRAIN_VARIANTS = TRAIN_MALE + TRAIN_FEMALE
RATE_WPM = (120, 200)
_FEMALE_SHARE = 0.45


class SpeechSynthesisError(RuntimeError):
    """espeak-ng is missing, or refused a voice or a text."""


@dataclass(frozen=True)
class Voice:
    """One way of speaking.

    variant: a file of espeak-ng's `voices/!v`, or "" for the plain voice. pitch and pitch_range: 0
    to 99, 50 as designed.
    """

    name: str
    language: str
    variant: str
    rate_wpm: int
    pitch: int = 50
    pitch_range: int = 50

    @property
    def espeak_name(self) -> str:
        return f"{self.language}+{self.variant}" if self.variant else self.language

    def __str__(self) -> str:
        return f"{self.espeak_name}@{self.rate_wpm},{self.pitch},{self.pitch_range}"


DEV_VOICES = (
    Voice("dev-nguyen", "es", "Nguyen", 165, 52, 50),
    Voice("dev-grandad", "es-419", "m4", 150, 46, 55),
    Voice("dev-lucia", "es-419", "Annie", 150, 42, 50),
)
HELD_OUT_VOICES = (
    Voice("elena", "es", "f2", 150, 50, 55),
    Voice("carmen", "es-419", "f2", 172, 58, 45),
    Voice("irene", "es-419", "f5", 160, 42, 50),
    Voice("sofia", "es", "f5", 140, 55, 60),
    Voice("andrea", "es", "Andrea", 155, 40, 50),
    Voice("pablo", "es", "pablo", 160, 50, 50),
    Voice("pablo-lento", "es-419", "pablo", 135, 42, 60),
    Voice("paul", "es-419", "paul", 165, 55, 50),
    Voice("sandro", "es", "sandro", 150, 48, 55),
    Voice("sandro-rapido", "es-419", "sandro", 185, 55, 45),
)


def train_voice(rng: random.Random, accents: tuple[str, ...] = LANGUAGES) -> Voice:
    """A random training voice: variant, accent, rate and pitch are drawn independently."""
    variant = rng.choice(TRAIN_FEMALE if rng.random() < _FEMALE_SHARE else TRAIN_MALE)
    return _voice(rng, variant, accents)


def draw_voice(rng: random.Random, language: str, split: str) -> Voice:
    """A random voice of a split for one of ACCENTS. Raises KeyError for another language."""
    accents = ACCENTS[language]
    if split == "train":
        return train_voice(rng, accents)
    kept = DEV_VOICES if split == "dev" else HELD_OUT_VOICES
    return _voice(rng, rng.choice(sorted({voice.variant for voice in kept})), accents)


def _voice(rng: random.Random, variant: str, accents: tuple[str, ...]) -> Voice:
    language = rng.choice(accents)
    rate_wpm = rng.randint(*RATE_WPM)
    return Voice(
        f"{language}+{variant}",
        language,
        variant,
        rate_wpm,
        rng.randint(30, 70),
        rng.randint(30, 70),
    )


@dataclass(frozen=True)
class Utterance:
    """samples: int16 [S] at 16 kHz. word_starts_samples, word_ends_samples: one entry per
    whitespace-separated word.
    """

    samples: np.ndarray
    word_starts_samples: list[int]
    word_ends_samples: list[int]


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)
_SYNCHRONOUS = 2
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_UTF8 = 1
_WORD = 1  # espeak_EVENTTYPE
_SILENCE = 60  # of 32 768: quieter is silence at the ends of an utterance
_EDGE_SAMPLES = 320  # kept on either side of the speech


class Synthesizer:
    """espeak-ng as a function from text and voice to samples and word timings.

    One per process: the C library is global, though nothing of it survives a call of `speak`.
    """

    def __init__(self, library: str | None = None):
        self._library = library or ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"
        self._libc = ctypes.CDLL(None)
        self._rate_hz = 0
        self.speak("sí", Voice("check", "es", "", 160))

    def speak(self, text: str, voice: Voice) -> Utterance:
        """Speak the text; leading and trailing silence is cut down to 20 ms.

        A word ends where the next one starts; the last ends with the audio. Source: espeak-ng's
        speak_lib.h. Raises SpeechSynthesisError when the library or the voice is missing, or a text
        has no words.
        """
        words = text.split()
        if not words:
            raise SpeechSynthesisError(f"nothing to speak: got {text!r}; give at least one word")
        raw, events = self._render(text, voice)
        starts = _word_starts(text, events, len(raw))
        loud = np.flatnonzero(np.abs(raw) > _SILENCE)
        if not len(loud):
            raise SpeechSynthesisError(f"{voice.espeak_name} was silent for {text!r}; leave it out")
        begin = max(0, int(loud[0]) - _EDGE_SAMPLES)
        end = min(len(raw), int(loud[-1]) + _EDGE_SAMPLES)
        samples = _resample(raw[begin:end], self._rate_hz)
        scale = SAMPLE_RATE_HZ / self._rate_hz
        starts = [min(max(round((s - begin) * scale), 0), len(samples)) for s in starts]
        return Utterance(samples, starts, [*starts[1:], len(samples)])

    def _render(self, text: str, voice: Voice) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """Samples at the library's rate, and (character position, sample) of each word event."""
        try:
            lib = ctypes.CDLL(self._library)
        except OSError as error:
            raise SpeechSynthesisError(
                f"the speech synthesizer {self._library} cannot be loaded ({error}); install the "
                "Debian packages: apt-get install espeak-ng libespeak-ng1"
            ) from error
        pieces: list[np.ndarray] = []
        events: list[tuple[int, int]] = []

        def collect(wave, count, event) -> int:
            if wave and count > 0:
                pieces.append(np.ctypeslib.as_array(wave, (count,)).copy())
            index = 0
            while event[index].type:
                if event[index].type == _WORD and event[index].length:
                    events.append((event[index].text_position - 1, event[index].sample))
                index += 1
            return 0

        callback = _Callback(collect)
        try:
            self._rate_hz = lib.espeak_Initialize(_SYNCHRONOUS, 0, None, 0)
            if self._rate_hz <= 0:
                raise SpeechSynthesisError(
                    "espeak-ng found no data: install the Debian package espeak-ng-data"
                )
            lib.espeak_SetSynthCallback(callback)
            if lib.espeak_SetVoiceByName(voice.espeak_name.encode()):
                raise SpeechSynthesisError(
                    f"no espeak-ng voice {voice.espeak_name!r}; see `espeak-ng --voices=variant`"
                )
            self._libc.srand(1)  # breath noise
            for parameter, value in (
                (_RATE, voice.rate_wpm),
                (_PITCH, voice.pitch),
                (_RANGE, voice.pitch_range),
            ):
                lib.espeak_SetParameter(parameter, value, 0)
            data = text.encode() + b"\0"
            lib.espeak_Synth(
                ctypes.c_char_p(data), ctypes.c_size_t(len(data)), 0, 1, 0, _UTF8, None, None
            )
        finally:
            lib.espeak_Terminate()
            _ctypes.dlclose(lib._handle)
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int16), events


def _word_starts(text: str, events: list[tuple[int, int]], end: int) -> list[int]:
    """One start sample per word of the text, which ends at `end`; words that espeak spoke as one
    share its time by length in letters.
    """
    spans, position = [], 0
    for word in text.split():
        position = text.index(word, position)
        spans.append((position, position + len(word)))
        position += len(word)
    starts: list[int | None] = [None] * len(spans)
    for character, sample in events:
        for index, (begin, after) in enumerate(spans):
            if begin <= character < after and starts[index] is None:
                starts[index] = sample
    return _fill(starts, [after - begin for begin, after in spans], end)


def _fill(starts: list[int | None], weights: list[int], end: int) -> list[int]:
    """Interpolate missing starts between their neighbours, in proportion to the letters before
    them.
    """
    known = [i for i, start in enumerate(starts) if start is not None]
    if not known:
        raise SpeechSynthesisError("espeak-ng gave no time for any word; write without symbols")
    letters = np.concatenate([[0], np.cumsum(weights)])
    at, samples = [*letters[known], letters[-1]], [*(starts[i] or 0 for i in known), end]
    filled = np.interp(letters[:-1], at, [float(sample) for sample in samples])
    return [int(round(sample)) for sample in np.maximum.accumulate(filled)]


def _resample(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """int16 [S] at rate_hz -> int16 [S'] at 16 kHz."""
    common = math.gcd(rate_hz, SAMPLE_RATE_HZ)
    wave = resample_poly(samples.astype(np.float64), SAMPLE_RATE_HZ // common, rate_hz // common)
    return np.clip(np.rint(wave), -32768, 32767).astype(np.int16)
