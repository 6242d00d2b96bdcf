"""Sessions for a page: each runs in a thread of its own while the page looks at its captions.

Between :mod:`demos.browser_live`, :mod:`demos.browser_video` and the pipeline. All share one chain,
and so many places of one kind; a session waits in its thread until one is free.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any

import numpy as np

from dragoman.errors import InputError, PipelineError
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.session import Pace, Session
from dragoman.stages.messages import Caption, Picture, SessionOptions

log = logging.getLogger(__name__)

POLL_S = 0.1


class PageSession:
    """A session that has been started; ``error`` says why it ended early, if it did, ``warned``
    what it went on after, the last time, and ``warned_at`` when that was.

    ``places`` bounds how many run at once: it is taken by the session's thread, and given back.
    ``tell`` hears of each caption in that thread.
    """

    def __init__(
        self,
        chain: Chain,
        pieces: Iterable[np.ndarray],
        options: SessionOptions,
        pace: Pace,
        places: threading.Semaphore,
        frames: Iterable[Picture] | None = None,
        tell: Callable[[Caption], None] = lambda caption: None,
    ) -> None:
        self.error = self.warned = ""
        self.warned_at: float | None = None  # on the monotonic clock, as `ended_at`
        self.ended_at: float | None = None
        self.waits = True  # for a place
        self._session = Session(chain, pieces, options, pace, frames=frames, warn=self._warn)
        self._tell = tell
        self._finals: list[Caption] = []
        self._partial: Caption | None = None
        self._lock = threading.Lock()
        self._left = threading.Event()
        self._thread = threading.Thread(
            target=self._work, args=(places,), name="page-session", daemon=True
        )
        self._thread.start()

    @property
    def done(self) -> bool:
        return self.ended_at is not None

    @property
    def heard_s(self) -> float:
        return self._session.heard_s

    def captions(self, since: int = 0) -> tuple[list[Caption], Caption | None]:
        """The final captions but the first ``since``, and the partial one of an open segment."""
        with self._lock:
            return self._finals[since:], self._partial

    def leave(self) -> None:
        """Ends the session, and gives up its last captions."""
        self._left.set()
        self._session.stop()

    def _warn(self, what: str) -> None:
        log.warning("a session of the page: %s", what)
        self.warned, self.warned_at = what, time.monotonic()

    def _work(self, places: threading.Semaphore) -> None:
        while not places.acquire(timeout=POLL_S):
            if self._left.is_set():
                self.ended_at = time.monotonic()
                return
        self.waits = False
        try:
            self._follow()
        except (PipelineError, InputError) as error:
            self.error = _told(error)
        except Exception as error:
            log.exception("a session of the page failed")
            self.error = f"{type(error).__name__}: {error}"
        finally:
            places.release()
            self.ended_at = time.monotonic()

    def _follow(self) -> None:
        stream: Any = iter(self._session)  # a generator: closed, it drops the session
        with closing(stream) as captions:
            for caption in captions:
                if self._left.is_set():
                    return
                self._tell(caption)  # first: who sees it here may ask there
                with self._lock:
                    if caption.kind == "final":
                        self._finals.append(caption)
                    self._partial = caption if caption.kind == "partial" else None


def _told(error: Exception) -> str:
    """What a visitor reads, who cannot look after the programs behind the page."""
    if isinstance(error, PipelineError) and not error.stage:
        log.error("a session of the page failed: %s", error)
        return (
            "A program behind the captions has ended. What was said until then is kept. They go on "
            "by themselves in a moment, or whoever runs this page must start it again."
        )
    return str(error)
