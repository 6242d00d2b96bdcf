"""Makes `samples/talk.wav`: a short talk for demonstrations and end-to-end tests, with its
transcript and translation.

Place: run once by hand; the results are committed. Its sentences belong to the test split and its
voice is held out, so nothing of it was ever trained on.

    python -m training.sample
"""

import argparse
import random
import wave
from pathlib import Path

import numpy as np

from training.grammar import split_of
from training.voices import HELD_OUT_VOICES, SAMPLE_RATE_HZ, Synthesizer

TALK = (
    (
        "Buenas tardes, me llamo Marta y vivo en Valencia.",
        "Good afternoon, my name is Marta and I live in Valencia.",
    ),
    (
        "Esta tarde vamos a hablar del viaje a Madrid.",
        "This afternoon we are going to talk about the trip to Madrid.",
    ),
    ("El tren a Madrid sale mañana a las nueve.", "The train to Madrid leaves tomorrow at nine."),
    ("Hoy el cielo está nublado en Madrid.", "Today the sky is cloudy in Madrid."),
    (
        "Mañana va a hacer mucho viento en Madrid.",
        "Tomorrow it is going to be very windy in Madrid.",
    ),
    (
        "La reunión empieza el lunes a las tres y media.",
        "The meeting starts on Monday at three thirty.",
    ),
    ("Necesitamos más tiempo para terminar mi informe.", "We need more time to finish my report."),
    ("Muchas gracias a todos por escuchar.", "Thank you all very much for listening."),
)
VOICE = HELD_OUT_VOICES[0]
_LEAD_MS, _TAIL_MS = 700, 1_000
_PAUSE_MS = (800, 1_300)
_PEAK = 0.5  # of full scale
_NOISE = 0.0008  # of full scale, root mean square: a quiet room


def render(seed: int = 1) -> np.ndarray:
    """The talk as int16 [S] at 16 kHz. Raises ValueError if a sentence is not in the test split."""
    rng = random.Random(seed)
    synthesizer = Synthesizer()
    pieces = [_silence(_LEAD_MS)]
    for number, (spanish, _) in enumerate(TALK):
        if split_of(spanish) != "test":
            raise ValueError(
                f"{spanish!r} is in the {split_of(spanish)} split; choose a test sentence"
            )
        if number:
            pieces.append(_silence(rng.randint(*_PAUSE_MS)))
        pieces.append(synthesizer.speak(spanish, VOICE).samples.astype(np.float64))
    pieces.append(_silence(_TAIL_MS))
    speech = np.concatenate(pieces)
    speech *= _PEAK / np.abs(speech).max()
    return ((speech + _room_noise(len(speech), seed)) * 32_767).round().astype(np.int16)


def _silence(milliseconds: int) -> np.ndarray:
    return np.zeros(milliseconds * SAMPLE_RATE_HZ // 1_000)


def _room_noise(samples: int, seed: int) -> np.ndarray:
    """Pink noise."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(samples))
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE_HZ), 30))
    noise = np.fft.irfft(spectrum, samples)
    return noise * (_NOISE / noise.std())


def write(folder: Path) -> float:
    """Write talk.wav, talk.es.txt and talk.en.txt; returns the seconds of audio."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = render()
    with wave.open(str(folder / "talk.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(samples.astype("<i2").tobytes())
    for column, language in enumerate(("es", "en")):
        text = "".join(pair[column] + "\n" for pair in TALK)
        (folder / f"talk.{language}.txt").write_text(text, encoding="utf-8")
    return len(samples) / SAMPLE_RATE_HZ


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the sample talk.")
    parser.add_argument("--out", type=Path, default=Path("samples"))
    options = parser.parse_args()
    print(f"{options.out / 'talk.wav'}: {write(options.out):.1f} s")


if __name__ == "__main__":
    main()
