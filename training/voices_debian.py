"""Speech from the synthesizers flite and festival of Debian, for training data.

Place: beside `training.voices`; eight voices in two languages, none in Spanish, French or
Portuguese. flite runs inside the process, festival in a process for each call.

Licences: see VOICES; festival itself is BSD-like. Install: `apt-get install libflite1 festival
festvox-itapc16k festvox-italp16k festvox-kdlpc16k festvox-us-slt-hts`.
"""

import ctypes
import functools
import subprocess
from dataclasses import dataclass

import numpy as np
from scipy.signal import resample_poly

SAMPLE_RATE_HZ = 16_000


@dataclass(frozen=True)
class DebianVoice:
    """program: flite or festival. voice: its name there. package: of Debian."""

    program: str
    voice: str
    language: str
    package: str
    licence: str


_CMU = "BSD-like (Carnegie Mellon University)"
_EDINBURGH = "BSD-like (University of Edinburgh)"
VOICES = {
    "kal": DebianVoice("flite", "cmu_us_kal16", "en", "libflite1", _CMU),
    "awb": DebianVoice("flite", "cmu_us_awb", "en", "libflite1", _CMU),
    "rms": DebianVoice("flite", "cmu_us_rms", "en", "libflite1", _CMU),
    "slt": DebianVoice("flite", "cmu_us_slt", "en", "libflite1", _CMU),
    "slt-hts": DebianVoice("festival", "cmu_us_slt_arctic_hts", "en", "festvox-us-slt-hts", _CMU),
    "ked": DebianVoice("festival", "ked_diphone", "en", "festvox-kdlpc16k", _EDINBURGH),
    "pc": DebianVoice("festival", "pc_diphone", "it", "festvox-itapc16k", "GPL-2.0-or-later"),
    "lp": DebianVoice("festival", "lp_diphone", "it", "festvox-italp16k", "GPL-2.0-or-later"),
}


class DebianVoiceError(RuntimeError):
    """A voice is unknown or not installed, or was silent."""


def speak(text: str, voice: str) -> np.ndarray:
    """Speak a text; returns int16 [S] at 16 kHz.

    voice: a key of VOICES; the text is in its language. Raises DebianVoiceError when the voice is
    unknown, not installed or silent.
    """
    if voice not in VOICES:
        raise DebianVoiceError(f"voice: expected one of {', '.join(VOICES)}, got {voice!r}")
    chosen = VOICES[voice]
    try:
        samples, rate_hz = (_flite if chosen.program == "flite" else _festival)(text, chosen.voice)
    except (OSError, subprocess.CalledProcessError) as error:
        raise DebianVoiceError(
            f"{chosen.program} could not speak as {voice} ({error}); apt-get install "
            f"{chosen.package} {chosen.program}"
        ) from error
    if not samples.any():
        raise DebianVoiceError(f"expected speech, got silence for {text!r}; give some words")
    if rate_hz != SAMPLE_RATE_HZ:
        resampled = resample_poly(samples.astype(np.float32), SAMPLE_RATE_HZ, rate_hz)
        samples = np.clip(np.round(resampled), -32768, 32767).astype(np.int16)
    return samples


class _Wave(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    ]


@functools.cache
def _flite_voice(name: str) -> tuple[ctypes.CDLL, int]:
    """The library and the address of a voice (flite.h)."""
    library = ctypes.CDLL("libflite.so.1", mode=ctypes.RTLD_GLOBAL)
    for needed in ("usenglish", "cmulex"):
        ctypes.CDLL(f"libflite_{needed}.so.1", mode=ctypes.RTLD_GLOBAL)
    library.flite_init()
    library.flite_text_to_wave.restype = ctypes.POINTER(_Wave)
    register = getattr(ctypes.CDLL(f"libflite_{name}.so.1"), f"register_{name}")
    register.restype = ctypes.c_void_p
    return library, register(None)


def _flite(text: str, voice: str) -> tuple[np.ndarray, int]:
    """Samples int16 [S] and their rate in Hz."""
    library, address = _flite_voice(voice)
    plain = text.encode("ascii", "ignore")
    spoken = library.flite_text_to_wave(ctypes.c_char_p(plain), ctypes.c_void_p(address))
    content = spoken.contents
    samples = np.ctypeslib.as_array(content.samples, (content.num_samples,)).copy()
    library.delete_wave(spoken)
    return samples, content.sample_rate


def _festival(text: str, voice: str) -> tuple[np.ndarray, int]:
    """Samples int16 [S] and their rate in Hz."""
    done = subprocess.run(
        ["text2wave", "-eval", f"(voice_{voice})"],
        input=text.encode("latin-1", "ignore"),
        capture_output=True,
        check=True,
    )
    # The header gives no length, since the output is a pipe.
    rate_hz = int.from_bytes(done.stdout[24:28], "little")
    return np.frombuffer(done.stdout[44:], np.int16), rate_hz or SAMPLE_RATE_HZ
