"""The status line of live captions."""

import time
from pathlib import Path

from dragoman.demos.captions_options import CaptionsOptions
from dragoman.demos.listening import hearing
from dragoman.demos.terminal import clock
from dragoman.pipeline.microphone import Microphone
from dragoman.pipeline.saving import Saving
from dragoman.pipeline.session import Session
from dragoman.pipeline.streams import Stream
from dragoman.stages.messages import Caption


class Status:
    """Writes the status line: time, how loud live sound is, speed, model."""

    def __init__(
        self,
        session: Session,
        asked: CaptionsOptions,
        live: Microphone | Stream | None = None,
        saving: Saving | None = None,
    ) -> None:
        self._session, self._asked, self._sound = session, asked, live
        self._saving = saving
        self._begin = time.monotonic()
        self.last: Caption | None = None

    def __call__(self) -> str:
        live = self._sound
        if live is not None and live.stopped:
            return "the last words ...   Ctrl-C to end without them"
        hears = [] if live is None else hearing(live)
        parts = [clock(self._session.heard_samples), *hears, Path(self._asked.spec.model).name]
        heard = self._session.heard_s
        if self._asked.pace == "fast" and heard:
            parts.append(f"RTF {(time.monotonic() - self._begin) / heard:.2f}")
        elif self.last is not None:
            parts.append(f"latency {self.last.latency.get('partial_ms', 0)} ms")
        if self._saving is not None and self._saving.problem:
            parts.append(self._saving.problem)
        return "   ".join([*parts, "Ctrl-C to end"])
