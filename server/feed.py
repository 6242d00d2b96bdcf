"""The sound of one recording, pushed from outside, as a session takes it.

Between who receives sound (:mod:`demos.browser_live`, :mod:`server.speaker`) and a session's
thread, which pulls.

What is unusual: a browser does not always say that recording has stopped (a laptop closes, a
network breaks), so a recording ends when no sound has come for a while.
"""

import threading
import time
from collections.abc import Iterator
from queue import Empty, SimpleQueue

import numpy as np

from dragoman.pipeline.resampling import Resampler
from dragoman.stages.messages import SAMPLE_RATE_HZ

POLL_S = 0.1
SILENT_S = 20.0  # without a piece of sound for so long the recording is over
WAITING_S = 80.0  # sound kept for a pipeline that lags: more than a page sends at once


class Feed:
    """The sound of one recording, pushed from outside: pieces float32 [S] at 16 kHz, once.

    It ends where nobody takes its sound for ``waiting_s``, None: `WAITING_S`: then sound is lost
    rather than memory.
    """

    def __init__(self, rate_hz: int, waiting_s: float | None = None) -> None:
        self.rate_hz = rate_hz
        self._waiting_s = WAITING_S if waiting_s is None else waiting_s
        self.samples = 0  # given to the queue, at 16 kHz
        self._taken, self._dropped = 0, False
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
            if self.behind_s > self._waiting_s:
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
        """Ends the stream at once: what waits is not heard."""
        with self._lock:
            self._resampler, self._dropped = None, True
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
            if not self._dropped:
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
