"""The JSON document about one source: what its captions say, and all that files are made of.

Between the final captions of all commands and `pipeline.outputs`. A document is read as well as
written: what was transcribed once is laid out again, in other formats or by other rules, without
the model and without the sound.

What is unusual: times are rounded to milliseconds and confidences to hundredths, so whatever is
made of captions uses them as rounded. Then a file made of the document equals one made at once.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dragoman.errors import InputError
from dragoman.models.hub import name_of
from dragoman.models.words import words
from dragoman.stages.messages import (
    SAMPLE_RATE_HZ,
    Caption,
    SessionOptions,
    Span,
    Text,
    VideoFrame,
)


def document(
    source: str,
    model: str,
    options: SessionOptions,
    duration_s: float,
    captions: Sequence[Caption],
    warnings: Sequence[str],
    changes_s: Sequence[float] | None = None,
    marks: Sequence[int] = (),
) -> dict[str, Any]:
    """The JSON document about finished ``captions`` of ``source``, as docs/formats.md has it;
    ``changes_s`` are the shot changes of a film, where they were looked for, ``marks`` the samples
    that somebody has marked while it went on.

    Nothing in it depends on when, where or how fast it was made.
    """
    return {
        "source": source,
        "duration": round(duration_s, 3),
        "model": name_of(Path(model)),
        "options": asked(options),
        "warnings": list(warnings),
        **({} if changes_s is None else {"shot_changes": list(changes_s)}),
        **({"marks": [round(at / SAMPLE_RATE_HZ, 3) for at in marks]} if marks else {}),
        "segments": [_segment(caption) for caption in captions],
    }


def asked(options: SessionOptions) -> dict[str, Any]:
    """The options of a session as documents name them: ``finals_only`` and ``min_confidence`` where
    there is a choice.
    """
    fields = asdict(options)
    if not options.finals_only:
        del fields["finals_only"]
    if options.min_confidence is None:
        del fields["min_confidence"]
    return fields


def _segment(caption: Caption) -> dict[str, Any]:
    """What of a final caption is of use once it is one; times in seconds."""
    event = caption.to_event()
    return {
        "start": event["start"],
        "end": event["end"],
        "transcript": caption.transcript.whole,
        "translation": caption.translation.whole,
        "transcript_confidence": event["transcript"]["confidence"],
        "translation_confidence": event["translation"]["confidence"],
        "words": _words(caption.transcript),
        "frames": event["frames"],
        "size": caption.size,
        "guards": event["guards"],
    }


def _words(text: Text) -> list[dict[str, Any]]:
    """The words of ``text`` with their times in seconds, and their confidences where these are
    known; none where the times are not.
    """
    if not text.spans:
        return []
    return [
        {
            "word": word,
            "start": round(start / SAMPLE_RATE_HZ, 3),
            "end": round(end / SAMPLE_RATE_HZ, 3),
            **({} if sure is None else {"confidence": round(sure, 2)}),
        }
        for (word, sure), (start, end) in zip(text.words, text.spans, strict=True)
    ]


def read_document(path: Path) -> dict[str, Any]:
    """The document in the file at ``path``; raises InputError where that is none."""
    try:
        form = json.loads(path.read_text(encoding="utf-8"))
        captions_of(form)
        _ = form["source"], form["model"], float(form["duration"]), [*form["warnings"]]
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the name") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no document of captions or translate ({type(error).__name__}: {error}): "
            "give the .json that one of them wrote"
        ) from error
    return form


def captions_of(form: dict[str, Any]) -> list[Caption]:
    """The final captions that the document ``form`` is about, numbered from 0. Raises ValueError,
    KeyError or TypeError for another document.
    """
    language, target = form["options"]["language"], form["options"]["target_language"]
    return [
        Caption(
            kind="final",
            segment=number,
            start=_samples(one["start"]),
            end=_samples(one["end"]),
            language=language,
            target_language=target,
            transcript=_text(one["transcript"], one["transcript_confidence"], one.get("words", ())),
            translation=_text(one["translation"], one["translation_confidence"]),
            frames=tuple(VideoFrame(**frame) for frame in one["frames"]),
            size=one["size"],
            guards=tuple(one["guards"]),
        )
        for number, one in enumerate(form["segments"])
    ]


def _text(said: str, sure: Sequence[float], spoken: Sequence[dict[str, Any]] = ()) -> Text:
    """``said``, with what is known of each word; somebody may have edited the text alone."""
    count = len(words(said))
    spans: tuple[Span, ...] = tuple((_samples(w["start"]), _samples(w["end"])) for w in spoken)
    known = tuple(sure) if len(sure) == count else ()
    return Text(said, "", known, spans if len(spans) == count else ())


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE_HZ)
