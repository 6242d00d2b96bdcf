"""The status line of live captions: what a person in front of it wants to know at a glance."""

import time
from pathlib import Path

from dragoman.demos.captions_options import CaptionsOptions
from dragoman.demos.listening import hearing
from dragoman.demos.pausing import Pausing
from dragoman.demos.terminal import clock, fitted
from dragoman.pipeline.microphone import Microphone
from dragoman.pipeline.saving import Saving
from dragoman.pipeline.session import Session
from dragoman.pipeline.streams import Stream
from dragoman.stages.messages import Caption

WITHOUT_KEYS = "Ctrl-C to end"
WITH_KEYS = "space pause, m mark, t text, q end"


class Status:
    """Writes the line for a terminal of so many columns: the most important is in front."""

    def __init__(
        self,
        session: Session,
        asked: CaptionsOptions,
        live: Microphone | Stream | None = None,
        saving: Saving | None = None,
        pausing: Pausing | None = None,
    ) -> None:
        self._session, self._asked, self._sound = session, asked, live
        self._saving, self._pausing = saving, pausing
        self._begin = time.monotonic()
        self.last: Caption | None = None

    def __call__(self, width: int) -> str:
        live = self._sound
        if live is not None and live.stopped:
            return "the last words ...   Ctrl-C to end without them"
        paused = self._pausing is not None and self._pausing.paused
        problem = "" if self._saving is None else self._saving.problem
        parts = [
            "paused" if paused else "",
            clock(self._session.heard_samples),
            *([] if live is None or paused else hearing(live)),
            problem,
            self._speed(),
            f"{self._asked.language} → {self._asked.target_language}",
            *self._model(),
            WITHOUT_KEYS if self._pausing is None else WITH_KEYS,
        ]
        return fitted([part for part in parts if part], width)

    def _speed(self) -> str:
        heard = self._session.heard_s
        if self._asked.pace == "fast":
            return f"RTF {(time.monotonic() - self._begin) / heard:.2f}" if heard else ""
        return f"lag {self.lag_s:.1f} s"

    @property
    def lag_s(self) -> float:
        """How long the oldest sound that waits for its captions has been here."""
        return self._session.lag_s + (0.0 if self._sound is None else self._sound.waiting_s)

    def _model(self) -> list[str]:
        """The part of the model that ran, and how sure it is of the current words."""
        name = Path(self._asked.spec.model).name
        if self.last is None:
            return [name]
        sure = self.last.transcript.confidence
        size = "" if self.last.size in ("", "full") else f" {self.last.size}"
        return [f"{sure:.0%} sure" if sure is not None else "", f"{name}{size}"]
