"""Speech in four languages from SVOX Pico, for training data.

Place: beside `training.voices`; one speaker for each language, made of recorded pieces by a
statistical model, with speed and pitch to choose.

Licence: Apache-2.0 (SVOX Pico as in Android and the package py-nanotts around it). Install: `pip
install py-nanotts==0.1.1`. No Portuguese.

Unusual: Pico reads `<...>` in a text as markup, so such signs are taken out. Its noise goes on from
one call to the next, so the same text does not give the same samples.
"""

import numpy as np
from py_nanotts import NanoTTS  # pyright: ignore[reportMissingImports]

SAMPLE_RATE_HZ = 16_000
LANGUAGES = {
    "en": "en-US", "en-GB": "en-GB", "es": "es-ES", "fr": "fr-FR", "it": "it-IT",
}  # fmt: skip
SPEED, PITCH = (0.2, 5.0), (0.5, 2.0)
_VOLUME = 0.5  # at 1, as designed, vowels are clipped


class PicoError(RuntimeError):
    """An argument cannot be spoken, or Pico was silent."""


def speak(text: str, language: str, speed: float = 1, pitch: float = 1) -> np.ndarray:
    """Speak a text; returns int16 [S] at 16 kHz.

    language: a key of LANGUAGES. speed and pitch: factors, 1 as designed; 0.7 to 1.4 and 0.75 to
    1.35 sound like people. Raises PicoError for anything else.
    """
    if language not in LANGUAGES:
        raise PicoError(f"language: expected one of {', '.join(LANGUAGES)}, got {language!r}")
    for name, value, (low, high) in (("speed", speed, SPEED), ("pitch", pitch, PITCH)):
        if not low <= value <= high:
            raise PicoError(f"{name}: expected {low} to {high}, got {value}; 1 is as designed")
    plain = text.translate({ord(sign): " " for sign in "<>&"})
    data = NanoTTS().speak(
        plain, voice=LANGUAGES[language], speed=speed, pitch=pitch, volume=_VOLUME
    )
    samples = np.frombuffer(data, np.int16)
    if not samples.any():
        raise PicoError(f"expected speech, got silence for {text!r}; give at least one word")
    return samples
