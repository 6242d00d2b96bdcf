"""The promises that a stream of captions keeps, checked where it leaves the pipeline.

Committed text only grows, a final caption has no tail and is its segment's last, segments come in
order. Screens and files rely on this; a stage that breaks it is an error, not a flicker.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dragoman.errors import PipelineError
from dragoman.models.words import one_line, spaced_words, words
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption, Text, VideoFrame

TEXTS = ("transcript", "translation")


def to_json(caption: Caption) -> str:
    """One line of the event stream."""
    return json.dumps(caption.to_event(), ensure_ascii=False)


def of_event(event: Mapping[str, Any]) -> Caption:
    """The caption that an event was made of, but for the last digits of its times and confidences.

    Raises ValueError for what is no event of a caption.
    """
    try:
        if event["kind"] not in ("partial", "final"):
            raise ValueError(f"kind {event['kind']!r}, expected partial or final")
        return Caption(
            kind=event["kind"],
            segment=int(event["segment"]),
            start=round(event["start"] * SAMPLE_RATE_HZ),
            end=round(event["end"] * SAMPLE_RATE_HZ),
            language=str(event["language"]),
            target_language=str(event["target_language"]),
            transcript=_text(event["transcript"]),
            translation=_text(event["translation"]),
            frames=tuple(VideoFrame(**frame) for frame in event["frames"]),
            latency={str(name): int(ms) for name, ms in event["latency"].items()},
            size=str(event["size"]),
            guards=tuple(event["guards"]),
            session=str(event["session"]),
            seq=int(event["seq"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no event of a caption: {type(error).__name__} {error}") from None


def _text(form: Mapping[str, Any]) -> Text:
    """As `Text.to_event` gives it; confidences that do not fit its words are left out."""
    text = Text(str(form["committed"]), str(form["tail"]))
    sure = tuple(map(float, form["confidence"]))
    fits = len(sure) == len(words(text.whole))
    times = tuple((int(a), int(b), int(c)) for a, b, c in form.get("timing", ()))
    return replace(text, confidences=sure if fits else (), timing=times)


def warning(session: str, time_s: float, message: str) -> str:
    """A line of the event stream that tells what happened when ``time_s`` had been heard."""
    event = {"session": session, "kind": "warning", "time": round(time_s, 3), "message": message}
    return json.dumps(event, ensure_ascii=False)


def summary(session: str, time_s: float, lateness: Mapping[str, Any]) -> str:
    """The last line of the event stream: how late words were (:mod:`pipeline.lateness`)."""
    event = {"session": session, "kind": "summary", "time": round(time_s, 3), **lateness}
    return json.dumps(event)


class Ledger:
    """What one session has promised so far."""

    def __init__(self) -> None:
        self._last: Caption | None = None

    def check(self, caption: Caption) -> None:
        """Raises PipelineError when ``caption`` takes back what an earlier one promised."""
        for name in TEXTS:
            if caption.kind == "final" and (tail := getattr(caption, name).tail):
                raise _broken(caption, f"its final {name} has a tail {tail!r}")
        last, self._last = self._last, caption
        if last is None or caption.segment > last.segment:
            return
        if caption.segment < last.segment or last.kind == "final":
            raise _broken(caption, f"it comes after a {last.kind} of segment {last.segment}")
        for name in TEXTS:
            now, before = getattr(caption, name).committed, getattr(last, name).committed
            if not now.startswith(before):
                raise _broken(caption, f"its {name} {now!r} retracts the committed {before!r}")

    def again(self, caption: Caption) -> Caption | None:
        """``caption`` of a session that was opened anew, as it may be given; None: not at all.

        Partial ones that say what was said already, or less, are not given again. A final one keeps
        what was committed, also where another size of the model has now heard other words.
        """
        last = self._last
        if last is None or caption.segment != last.segment:
            return caption
        if caption.kind == "final":
            kept = {n: _kept(getattr(last, n), getattr(caption, n)) for n in TEXTS}
            return replace(caption, **kept)
        grows = all(
            getattr(caption, name).committed.startswith(getattr(last, name).committed)
            for name in TEXTS
        )
        return caption if caption.end > last.end and grows else None


def _kept(before: Text, now: Text) -> Text:
    """The final text ``now``, with what was committed ``before`` in place of as many words."""
    if now.committed.startswith(before.committed):
        return now
    count = len(words(before.committed))
    whole = one_line([before.committed, "".join(spaced_words(now.committed)[count:])])
    sure = (*before.confidences[:count], *now.confidences[count:])
    return Text(whole, now.tail, sure if len(sure) == len(words(whole)) else ())


def _broken(caption: Caption, what: str) -> PipelineError:
    return PipelineError(
        f"a {caption.kind} of segment {caption.segment} breaks the stream's promises: {what}; "
        "committed text may only grow (this is a defect of the stage that made it)",
        stage="translate",
    )
