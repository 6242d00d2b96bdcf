"""Sessions for a page: each runs in a thread of its own while the page looks at its captions.

Between :mod:`demos.browser_page` and the pipeline. Every visitor has a `Live` transcript and at
most one `PageSession` over a file; all share one chain.

What is unusual: a browser does not always say that recording has stopped (a laptop closes, a
network breaks), so a microphone's session ends when no sound has come for a while; if sound comes
again, a new session goes on behind it in the same transcript.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any, Literal

import numpy as np

from dragoman.errors import InputError, PipelineError
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.resampling import Resampler
from dragoman.pipeline.session import Pace, Session
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption, Picture, SessionOptions

log = logging.getLogger(__name__)

POLL_S = 0.1
SILENT_S = 5.0  # without a piece of sound for so long the recording is over
WAITING_S = 60.0  # sound kept for a pipeline that lags
RETRY_S = 5.0  # after a failure


class PageSession:
    """A session that has been started; ``error`` says why it ended early, if it did."""

    def __init__(
        self,
        chain: Chain,
        pieces: Iterable[np.ndarray],
        options: SessionOptions,
        pace: Pace,
        frames: Iterable[Picture] | None = None,
    ) -> None:
        self.error = ""
        self.ended_at: float | None = None  # on the monotonic clock
        self._session = Session(chain, pieces, options, pace, frames=frames)
        self._captions: list[Caption] = []
        self._lock = threading.Lock()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._work, name="page-session", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        return self.ended_at is not None

    @property
    def heard_s(self) -> float:
        return self._session.heard_s

    def captions(self) -> list[Caption]:
        """The final captions so far, and the partial one of the segment that is open."""
        with self._lock:
            return list(self._captions)

    def leave(self) -> None:
        """Ends the session, and gives up its last captions."""
        self._left.set()
        self._session.stop()

    def _work(self) -> None:
        try:
            stream: Any = iter(self._session)  # a generator: closed, it drops the session
            with closing(stream) as captions:
                for caption in captions:
                    if self._left.is_set():
                        return
                    self._take(caption)
        except (PipelineError, InputError) as error:
            self.error = str(error)
        except Exception as error:
            log.exception("a session of the page failed")
            self.error = f"{type(error).__name__}: {error}"
        finally:
            self.ended_at = time.monotonic()

    def _take(self, caption: Caption) -> None:
        with self._lock:
            if self._captions and self._captions[-1].kind == "partial":
                self._captions.pop()
            self._captions.append(caption)


class Feed:
    """The sound of one recording, pushed from outside: pieces float32 [S] at 16 kHz, once.

    Sound for which nobody is ready within a minute is lost rather than memory.
    """

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self.samples = 0  # given to the queue, at 16 kHz
        self.lost_s = 0.0
        self._taken = 0
        self._resampler = Resampler(rate_hz)
        self._queue: SimpleQueue[np.ndarray | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._since = time.monotonic()

    @property
    def ended(self) -> bool:
        return self._closed

    def push(self, mono: np.ndarray) -> bool:
        """Takes float32 [S] at ``rate_hz``; False when the recording is over already."""
        with self._lock:
            if self._closed:
                return False
            self._since = time.monotonic()
            if self.samples - self._taken > WAITING_S * SAMPLE_RATE_HZ:
                self.lost_s += len(mono) / self.rate_hz
                return True
            self._put(self._resampler.step(mono))
            return True

    def end(self) -> None:
        """Nothing will be pushed any more; what is here will still be heard."""
        with self._lock:
            self._end()

    def close(self) -> None:
        """Ends the stream at once."""
        with self._lock:
            self._closed = True
            self._queue.put(None)

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            try:
                piece = self._queue.get(timeout=POLL_S)
            except Empty:
                if time.monotonic() - self._since > SILENT_S:
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
        if not self._closed:
            self._closed = True
            self._put(self._resampler.flush())
            self._queue.put(None)


@dataclass
class _Recording:
    """One uninterrupted recording and its session; ``start`` is where it begins in the whole."""

    start: int
    feed: Feed
    run: PageSession


class Live:
    """A visitor's live transcript: the recordings of one page, one behind the other."""

    def __init__(self, chain: Chain, options: SessionOptions) -> None:
        self._chain, self._options = chain, options
        self._recordings: list[_Recording] = []
        self._lock = threading.Lock()
        self._take, self._place = "", 0

    def hear(
        self, rate_hz: int, samples: np.ndarray, take: str = "", at: int | None = None
    ) -> None:
        """Takes the browser's next piece, int16 [S].

        ``at`` is the place of its first sample in the recording called ``take``: what is sent again
        because an answer got lost is heard once. None: it follows what came before.
        """
        with self._lock:
            samples = self._unheard(samples, take, at)
            if not len(samples):
                return
            mono = (samples / 32_768).astype(np.float32)
            last = self._recordings[-1] if self._recordings else None
            if last and last.feed.rate_hz != rate_hz:
                last.feed.end()
            elif last and not last.run.error and last.feed.push(mono):
                return
            failed_at = last.run.ended_at if last and last.run.error else None
            if failed_at is not None and time.monotonic() - failed_at < RETRY_S:
                return
            self._begin(rate_hz).push(mono)

    def stop(self) -> None:
        """Recording has stopped: the last captions come, then the session ends."""
        if last := self._last():
            last.feed.end()

    def clear(self) -> None:
        """Forgets everything; a recording that goes on starts anew."""
        with self._lock:
            for recording in self._recordings:
                recording.feed.close()
                recording.run.leave()
            self._recordings = []

    def captions(self) -> list[Caption]:
        """All captions in order, times and numbers counted through all recordings."""
        with self._lock:
            recordings = list(self._recordings)
        shifted = [
            replace(caption, start=caption.start + part.start, end=caption.end + part.start)
            for part in recordings
            for caption in part.run.captions()
        ]
        return [replace(c, segment=number, seq=number) for number, c in enumerate(shifted)]

    @property
    def listening(self) -> bool:
        """Whether a session runs, be it only to finish."""
        last = self._last()
        return last is not None and not last.run.done

    @property
    def state(self) -> Literal["Ready", "Listening", "Finishing", "Stopped"]:
        last = self._last()
        if last is None:
            return "Ready"
        if last.run.done:
            return "Stopped"
        return "Finishing" if last.feed.ended else "Listening"

    @property
    def heard_s(self) -> float:
        last = self._last()
        return 0.0 if last is None else (last.start + last.feed.samples) / SAMPLE_RATE_HZ

    @property
    def problem(self) -> str:
        """What went wrong in the present recording, as a sentence, or nothing."""
        last = self._last()
        if last is None:
            return ""
        if last.feed.lost_s:
            return f"This machine is too slow: {last.feed.lost_s:.0f} s were not heard."
        return last.run.error

    def _last(self) -> _Recording | None:
        with self._lock:
            return self._recordings[-1] if self._recordings else None

    def _unheard(self, samples: np.ndarray, take: str, at: int | None) -> np.ndarray:
        if take != self._take:
            self._take, self._place = take, 0
        begin = self._place if at is None else at
        heard = max(0, self._place - begin)
        self._place = max(self._place, begin + len(samples))
        return samples[heard:]

    def _begin(self, rate_hz: int) -> Feed:
        start = 0
        if self._recordings:
            start = self._recordings[-1].start + self._recordings[-1].feed.samples
        feed = Feed(rate_hz)
        run = PageSession(self._chain, feed, self._options, "live")
        self._recordings.append(_Recording(start, feed, run))
        return feed
