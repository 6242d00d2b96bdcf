"""Sessions for a page: each runs in a thread of its own while the page looks at its captions.

Between :mod:`demos.browser_live`, :mod:`demos.browser_video` and the pipeline. All share one chain,
and so many places of one kind; a session waits in its thread until one is free.

What is unusual: a browser does not always say that recording has stopped (a laptop closes, a
network breaks), so a microphone's session ends when no sound has come for a while.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from dragoman.errors import InputError, PipelineError
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.resampling import Resampler
from dragoman.pipeline.session import Pace, Session
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption, Picture, SessionOptions

log = logging.getLogger(__name__)

POLL_S = 0.1
SILENT_S = 20.0  # without a piece of sound for so long the recording is over
WAITING_S = 80.0  # sound kept for a pipeline that lags: more than a page sends at once


class PageSession:
    """A session that has been started; ``error`` says why it ended early, if it did, ``warned``
    what it went on after, the last time, and ``warned_at`` when that was.

    ``places`` bounds how many run at once: it is taken by the session's thread, and given back.
    """

    def __init__(
        self,
        chain: Chain,
        pieces: Iterable[np.ndarray],
        options: SessionOptions,
        pace: Pace,
        places: threading.Semaphore,
        frames: Iterable[Picture] | None = None,
    ) -> None:
        self.error = self.warned = ""
        self.warned_at: float | None = None  # on the monotonic clock, as `ended_at`
        self.ended_at: float | None = None
        self.waits = True  # for a place
        self._session = Session(chain, pieces, options, pace, frames=frames, warn=self._warn)
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


class Feed:
    """The sound of one recording, pushed from outside: pieces float32 [S] at 16 kHz, once.

    It ends where nobody takes its sound for `WAITING_S`: then sound is lost rather than memory.
    """

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self.samples = 0  # given to the queue, at 16 kHz
        self._taken = 0
        # A resampler has threads of its own: it goes when the recording is over.
        self._resampler: Resampler | None = Resampler(rate_hz)
        self._queue: SimpleQueue[np.ndarray | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._heard_at = time.monotonic()

    @property
    def ended(self) -> bool:
        return self._resampler is None

    @property
    def behind_s(self) -> float:
        """Seconds of sound that nobody has taken yet."""
        return (self.samples - self._taken) / SAMPLE_RATE_HZ

    def push(self, mono: np.ndarray) -> bool:
        """Takes float32 [S] at ``rate_hz``; False when the recording is over, or ends by it."""
        with self._lock:
            if self.behind_s > WAITING_S:
                self._end()
            if self._resampler is None:
                return False
            self._heard_at = time.monotonic()
            self._put(self._resampler.step(mono))
            return True

    def end(self) -> None:
        """Nothing will be pushed any more; what is here will still be heard."""
        with self._lock:
            self._end()

    def close(self) -> None:
        """Ends the stream at once."""
        with self._lock:
            self._resampler = None
            self._queue.put(None)

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            try:
                piece = self._queue.get(timeout=POLL_S)
            except Empty:
                if time.monotonic() - self._heard_at > SILENT_S:
                    self.end()
                continue
            if piece is None:
                return
            self._taken += len(piece)
            yield piece

    def _put(self, piece: np.ndarray) -> None:
        if len(piece):
            self.samples += len(piece)
            self._queue.put(piece)

    def _end(self) -> None:
        if self._resampler is not None:
            self._put(self._resampler.flush())
            self._resampler = None
            self._queue.put(None)
