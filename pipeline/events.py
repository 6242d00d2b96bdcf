"""The promises that a stream of captions keeps, checked where it leaves the pipeline.

Committed text only grows, a final caption has no tail and is its segment's last, segments come in
order. Screens and files rely on this; a stage that breaks it is an error, not a flicker.
"""

import json

from dragoman.errors import PipelineError
from dragoman.stages.messages import Caption


def to_json(caption: Caption) -> str:
    """One line of the event stream."""
    return json.dumps(caption.to_event(), ensure_ascii=False)


class Ledger:
    """What one session has promised so far."""

    def __init__(self) -> None:
        self._last: Caption | None = None

    def check(self, caption: Caption) -> None:
        """Raises PipelineError when ``caption`` takes back what an earlier one promised."""
        for name, text in _texts(caption):
            if caption.kind == "final" and text.tail:
                raise _broken(caption, f"its final {name} has a tail {text.tail!r}")
        last, self._last = self._last, caption
        if last is None or caption.segment > last.segment:
            return
        if caption.segment < last.segment or last.kind == "final":
            raise _broken(caption, f"it comes after a {last.kind} of segment {last.segment}")
        for (name, text), (_, before) in zip(_texts(caption), _texts(last), strict=True):
            if not text.committed.startswith(before.committed):
                raise _broken(
                    caption,
                    f"its {name} {text.committed!r} retracts the committed {before.committed!r}",
                )


def _texts(caption: Caption):
    return ("transcript", caption.transcript), ("translation", caption.translation)


def _broken(caption: Caption, what: str) -> PipelineError:
    return PipelineError(
        f"a {caption.kind} of segment {caption.segment} breaks the stream's promises: {what}; "
        "committed text may only grow (this is a defect of the stage that made it)",
        stage="translate",
    )
