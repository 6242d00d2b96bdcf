"""The promises that a stream of captions keeps, checked where it leaves the pipeline.

Committed text only grows, a final caption has no tail and is its segment's last, segments come in
order. Screens and files rely on this; a stage that breaks it is an error, not a flicker.
"""

import json

from dragoman.errors import PipelineError
from dragoman.stages.messages import Caption

TEXTS = ("transcript", "translation")


def to_json(caption: Caption) -> str:
    """One line of the event stream."""
    return json.dumps(caption.to_event(), ensure_ascii=False)


def warning(session: str, time_s: float, message: str) -> str:
    """A line of the event stream that tells what happened when ``time_s`` had been heard."""
    event = {"session": session, "kind": "warning", "time": round(time_s, 3), "message": message}
    return json.dumps(event, ensure_ascii=False)


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

    def goes_on(self, caption: Caption) -> bool:
        """Whether ``caption`` goes on from the last one: of what is said again to a new process,
        partial ones that say what was said already, or less, are not given again.
        """
        last = self._last
        if last is None or caption.segment > last.segment or caption.kind == "final":
            return True
        grows = all(
            getattr(caption, name).committed.startswith(getattr(last, name).committed)
            for name in TEXTS
        )
        return caption.segment == last.segment and caption.end > last.end and grows


def _broken(caption: Caption, what: str) -> PipelineError:
    return PipelineError(
        f"a {caption.kind} of segment {caption.segment} breaks the stream's promises: {what}; "
        "committed text may only grow (this is a defect of the stage that made it)",
        stage="translate",
    )
