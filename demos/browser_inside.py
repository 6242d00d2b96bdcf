"""What the Inside tab shows of a segment: the sound as the model gets it, and when words came.

Between :mod:`demos.browser_history`, :mod:`demos.browser_recorded` and the page's script, which
draws. Times are seconds of the transcript. The log-mel is librosa's, by the constants of
:mod:`encoders.features`: a picture of what the encoder computes, made by another.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import webrtcvad
from PIL import Image

from dragoman.demos.browser_history import Update
from dragoman.demos.browser_recorded import Recorded
from dragoman.models import languages
from dragoman.models.words import words
from dragoman.pipeline.word_times import spoken
from dragoman.stages.messages import (
    CHUNK_MS,
    CHUNK_SAMPLES,
    SAMPLE_RATE_HZ,
    Caption,
    SessionOptions,
    Speech,
    Text,
)

COLUMNS = 600  # of the waveform, and of the log-mel at most
FRAME = SAMPLE_RATE_HZ // 50  # 20 ms, which the voice detector judges
LEARNING = 2 * SAMPLE_RATE_HZ  # sound before a segment, by which the detector knows the room
BANDS = 128
MEL: dict[str, Any] = {
    "sr": SAMPLE_RATE_HZ,
    "n_fft": 1_024,
    "win_length": 512,
    "hop_length": 160,
    "center": False,
    "power": 1.0,
    "n_mels": BANDS,
    "fmin": 125.0,
    "fmax": 7_600.0,
    "htk": True,
    "norm": None,
}
FLOOR = 1e-5
# Dark blue, teal, and a pale yellow: as quiet, louder, loud.
COLOURS = np.array([(8, 18, 36), (13, 84, 96), (45, 170, 150), (250, 240, 170)], float)


def listed(captions: Sequence[Caption]) -> list[dict[str, Any]]:
    """The segments that can be looked at, the newest first."""
    return [
        {"number": c.segment, "start": _seconds(c.start), "text": c.transcript.whole}
        for c in reversed(captions)
    ]


def segment(
    updates: Sequence[Update], recorded: Recorded, options: SessionOptions
) -> dict[str, Any]:
    """All that is shown of a segment that has ended."""
    last = updates[-1].caption
    before = max(0, last.start - LEARNING)
    heard = recorded.read(before, last.end)
    samples = heard[last.start - before :]
    speech = Speech(last.segment, last.start, samples, opens=True, closes=True)
    spans = [(_seconds(a), _seconds(b)) for a, b in spoken(last.transcript.whole, speech)]
    voiced = _voiced(heard, options.vad_aggressiveness)[(last.start - before) // FRAME :]
    return {
        "number": last.segment,
        "start": _seconds(last.start),
        "end": _seconds(last.end),
        "peaks": _peaks(samples),
        "voice": list(_stretches(voiced, last.start)),
        "mel": _picture(samples),
        "tokens": -(-(last.end - last.start) // CHUNK_SAMPLES),
        "token_s": CHUNK_MS / 1_000,
        "updates": [round(update.at_s, 3) for update in updates],
        "lanes": [
            _lane(updates, "transcript", last.language, spans),
            _lane(updates, "translation", last.target_language, []),
        ],
    }


def _lane(
    updates: Sequence[Update], which: str, language: str, spans: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    """The words of one text: when each was spoken, if that is known, shown, and committed."""
    texts: list[Text] = [getattr(update.caption, which) for update in updates]
    said = [words(text.whole) for text in texts]
    committed = [len(words(text.committed)) for text in texts]
    last = texts[-1]
    shown = [
        _since([row[at : at + 1] == [word] for row in said]) for at, word in enumerate(said[-1])
    ]
    told = []
    for at, (word, sure) in enumerate(last.words):
        settled = _since([count > at for count in committed])
        told.append(
            {
                "text": word,
                "spoken": spans[at] if at < len(spans) else None,
                "shown": round(updates[shown[at]].at_s, 3),
                "committed": round(updates[max(settled, shown[at])].at_s, 3),
                "sure": None if sure is None else round(sure, 2),
            }
        )
    name = languages.find(language).name
    return {"which": which, "language": language, "name": name, "words": told}


def _since(held: Sequence[bool]) -> int:
    """The place from which on all of ``held`` is true; the last where nothing is."""
    place = len(held)
    while place and held[place - 1]:
        place -= 1
    return min(place, len(held) - 1)


def _peaks(samples: np.ndarray) -> list[tuple[int, int]]:
    """The lowest and highest sample of each column, in hundredths."""
    parts = np.array_split(samples, min(COLUMNS, max(1, len(samples))))
    return [(round(100 * float(p.min())), round(100 * float(p.max()))) for p in parts if len(p)]


def _voiced(samples: np.ndarray, aggressiveness: int) -> np.ndarray:
    """What the voice detector says of each frame: bool [S // FRAME]. It is begun anew here, so it
    may know the room less well than that of the session.
    """
    detector = webrtcvad.Vad(aggressiveness)
    frames = (samples[: len(samples) // FRAME * FRAME] * 32_767).astype(np.int16)
    said = [detector.is_speech(f.tobytes(), SAMPLE_RATE_HZ) for f in frames.reshape(-1, FRAME)]
    return np.array(said, bool)


def _stretches(voiced: np.ndarray, start: int) -> Iterator[tuple[float, float]]:
    """Where there is a voice, begin and end, in a segment that begins at sample ``start``."""
    at = start
    for is_voice, group in groupby(voiced):
        end = at + FRAME * len(list(group))
        if is_voice:
            yield _seconds(at), _seconds(end)
        at = end


def _picture(samples: np.ndarray) -> str:
    """The log-mel as the address of a PNG, low bands at the bottom."""
    import librosa  # here: it takes a second, and many never open the tab

    if len(samples) < MEL["n_fft"]:
        samples = np.pad(samples, (0, MEL["n_fft"] - len(samples)))
    mel = np.log(np.maximum(librosa.feature.melspectrogram(y=samples, **MEL), FLOOR))
    narrow = np.stack(
        [p.max(axis=1) for p in np.array_split(mel, min(COLUMNS, mel.shape[1]), 1)], 1
    )
    scaled = (narrow - narrow.min()) / max(1e-6, float(np.ptp(narrow)))
    stops = np.linspace(0, 1, len(COLOURS))
    pixels = np.stack([np.interp(scaled, stops, channel) for channel in COLOURS.T], -1)
    file = io.BytesIO()
    Image.fromarray(pixels[::-1].astype(np.uint8)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _seconds(samples: int) -> float:
    return round(samples / SAMPLE_RATE_HZ, 3)
