"""What `/v1/audio/*` answers: final captions in the formats that OpenAI's clients ask for.

Behind :mod:`server.transcriptions`. Subtitles are those of `dragoman translate`: the same rules,
and the same segments left out because the model is too unsure of them.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from starlette.responses import JSONResponse, PlainTextResponse, Response

from dragoman.models.languages import LANGUAGES
from dragoman.models.words import one_line
from dragoman.pipeline.formats import FORMATS
from dragoman.pipeline.outputs import presented
from dragoman.pipeline.subtitles import cues
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption, SessionOptions, Text

Which = Literal["transcript", "translation"]
MEDIA = {"srt": "application/x-subrip", "vtt": "text/vtt"}
ANSWERS = ("json", "text", "srt", "vtt", "verbose_json")


@dataclass(frozen=True)
class Shape:
    """What an answer looks like: its ``form``, one of ANSWERS, and ``which`` of the two texts it
    tells; with ``both`` a JSON answer has the translation, too.
    """

    form: str = "json"
    which: Which = "transcript"
    both: bool = False


def answer(
    captions: Sequence[Caption],
    shape: Shape,
    options: SessionOptions,
    model: str,
    duration_s: float,
) -> Response:
    """The answer to a file of ``duration_s`` in which final ``captions`` were heard."""
    kept, _ = presented(captions, options, model)
    kept = [caption for caption in kept if _text(caption, shape.which).whole]
    if shape.form in MEDIA:
        text = FORMATS[shape.form](cues(kept, shape.which))
        return PlainTextResponse(text, media_type=MEDIA[shape.form])
    if shape.form == "text":
        return PlainTextResponse(whole(kept, shape.which) + "\n")
    return JSONResponse(document(kept, shape, options, duration_s))


def document(
    kept: Sequence[Caption], shape: Shape, options: SessionOptions, duration_s: float
) -> dict[str, Any]:
    """The JSON of `json` or `verbose_json`."""
    told: dict[str, Any] = {"text": whole(kept, shape.which), "usage": usage(duration_s)}
    if shape.both:
        told["translation"] = whole(kept, "translation")
    if shape.form == "json":
        return told
    translates = shape.which == "translation"
    code = options.target_language if translates else options.language
    return {
        "task": "translate" if translates else "transcribe",
        "language": LANGUAGES[code].name.lower(),
        "duration": round(duration_s, 3),
        **told,
        "segments": [_segment(at, caption, shape) for at, caption in enumerate(kept)],
    }


def whole(captions: Sequence[Caption], which: Which) -> str:
    """All that was said, in one line."""
    return one_line(_text(caption, which).whole for caption in captions)


def usage(duration_s: float) -> dict[str, Any]:
    return {"type": "duration", "seconds": round(duration_s, 3)}


def _text(caption: Caption, which: Which) -> Text:
    return caption.translation if which == "translation" else caption.transcript


def _segment(at: int, caption: Caption, shape: Shape) -> dict[str, Any]:
    """A segment with the keys that whisper's have. `tokens`, `seek` and `no_speech_prob` say
    nothing here: they are there as clients read them.
    """
    text = _text(caption, shape.which)
    data = text.whole.encode()
    told = {
        "id": at,
        "seek": 0,
        "start": round(caption.start / SAMPLE_RATE_HZ, 3),
        "end": round(caption.end / SAMPLE_RATE_HZ, 3),
        "text": text.whole,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": _mean_log(text.confidences),
        "compression_ratio": len(data) / len(zlib.compress(data)) if data else 0.0,
        "no_speech_prob": 0.0,
        "confidence": text.rounded,
    }
    return {**told, "translation": caption.translation.whole} if shape.both else told


def _mean_log(confidences: Sequence[float]) -> float:
    logs = [math.log(max(confidence, 1e-9)) for confidence in confidences]
    return round(sum(logs) / len(logs), 4) if logs else 0.0
