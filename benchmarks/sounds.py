"""Sound to measure with: noise where values do not matter, speech where they do."""

import wave
from pathlib import Path

import numpy as np

from dragoman.stages.messages import CHUNK_SAMPLES, SAMPLE_RATE_HZ, Speech

TALK = Path(__file__).resolve().parents[1] / "samples" / "talk.wav"
QUIET = 1e-3  # -60 dBFS


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """Float32 [S]: a whole number of chunks of noise, at least two."""
    chunks = max(2, round(seconds * SAMPLE_RATE_HZ / CHUNK_SAMPLES))
    drawn = np.random.default_rng(seed).normal(0, 0.05, chunks * CHUNK_SAMPLES)
    return drawn.astype(np.float32)


def chunks(samples: np.ndarray) -> list[np.ndarray]:
    """Pieces of 160 ms, the last one maybe shorter."""
    return [samples[i : i + CHUNK_SAMPLES] for i in range(0, len(samples), CHUNK_SAMPLES)]


def segment(samples: np.ndarray) -> list[Speech]:
    """The sound as one segment, a piece a chunk; the last piece closes it."""
    pieces, start = chunks(samples), 0
    out = []
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        out.append(Speech(0, start, piece, opens=number == 0, closes=last))
        start += len(piece)
    return out


def talk() -> np.ndarray:
    """The bundled recording, float32 [S] at 16 kHz."""
    with wave.open(str(TALK)) as file:
        if file.getframerate() != SAMPLE_RATE_HZ or file.getnchannels() != 1:
            raise ValueError(f"{TALK} is not 16 kHz mono: put the original back")
        data = file.readframes(file.getnframes())
    return np.frombuffer(data, np.int16).astype(np.float32) / 32_768


def utterances(corpus: Path, count: int) -> list[np.ndarray]:
    """Speech that training never had, from a corpus that `make bench` makes; else the talk.

    Each with a second of faint noise before and after, as a microphone would give it.
    """
    if not (corpus / "test.jsonl").is_file():
        return [_among_quiet(talk())]
    from training.corpus import load

    test = load(corpus).test
    return [_among_quiet(test[i].samples.numpy() / 32_768) for i in range(min(count, len(test)))]


def _among_quiet(samples: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    whole = rng.normal(0, QUIET, len(samples) + 2 * SAMPLE_RATE_HZ)
    whole[SAMPLE_RATE_HZ:-SAMPLE_RATE_HZ] += samples
    return whole.astype(np.float32)
