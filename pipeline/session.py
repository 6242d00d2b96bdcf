"""Drives one session: pieces of audio in, captions out as soon as they exist.

A thread reads the source, cuts it into chunks and feeds the chain; the caller's thread iterates
over captions. A bounded number of chunks is in flight: then the source waits, and no audio is
dropped. A session that lags sends chunks whose update is skipped, so that the newest hypothesis is
the next to be computed; only at the pace "fast" all are. Pictures, where there are any, go along
with the chunk in whose time they came up.
"""

import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Literal

import numpy as np

from pipeline.chain import Chain
from pipeline.events import Ledger
from pipeline.reel import illustrated
from stages.chunk import Chunker
from stages.messages import (
    CHUNK_MS,
    CHUNK_SAMPLES,
    SAMPLE_RATE_HZ,
    Caption,
    Chunk,
    Picture,
    SessionOptions,
)

# A file is heard as if it were spoken now, "real-time", or "fast". "live" is a source with a clock
# of its own: a sound card that runs a little fast would wait for ours, ever further behind.
Pace = Literal["real-time", "live", "fast"]
MAX_IN_FLIGHT = 32
LAG_CHUNKS = 3
REMEMBERED_CHUNKS = 1024  # arrival times kept for latencies: far more than a segment has
POLL_S = 0.1


@dataclass(frozen=True)
class _Arrived:
    """The result of batch ``seq``, there at ``time``."""

    seq: int
    time: float
    future: Future


@dataclass(frozen=True)
class _Ended:
    """The feeder sent ``batches`` and will send no more; ``error`` is what the source raised."""

    batches: int
    error: BaseException | None


def run(
    chain: Chain,
    pieces: Iterable[np.ndarray],
    options: SessionOptions | None = None,
    pace: Pace = "real-time",
    session_name: str | None = None,
    frames: Iterable[Picture] | None = None,
) -> Iterator[Caption]:
    """Captions of a source: float32 mono pieces at 16 kHz. See :class:`Session`."""
    return iter(Session(chain, pieces, options, pace, session_name, frames))


class Session:
    """One stream through a chain, to be iterated over once.

    Unless the pace is "fast" every caption carries `partial_ms`, from the arrival of the last chunk
    it has heard to its own arrival here, and a final one `response_ms`, from the arrival of the
    chunk that closed its segment. Raises PipelineError when the session fails, or what the source
    raised (after the captions of what could be read).

    ``frames`` are pictures in the order of their times, such as `pipeline.frames.read_frames`
    gives. They are read a little ahead of the sound, which waits for them: so captions do not
    depend on how fast either is read.
    """

    def __init__(
        self,
        chain: Chain,
        pieces: Iterable[np.ndarray],
        options: SessionOptions | None = None,
        pace: Pace = "real-time",
        name: str | None = None,
        frames: Iterable[Picture] | None = None,
    ) -> None:
        self.name = name or uuid.uuid4().hex[:12]
        self.heard_samples = 0
        self.skipped_updates = 0
        self._chain, self._pieces, self._frames = chain, pieces, frames
        self._pace: Pace = pace
        self._options = options or SessionOptions()
        self._events: SimpleQueue[_Arrived | _Ended] = SimpleQueue()
        self._slots = threading.BoundedSemaphore(MAX_IN_FLIGHT)
        self._lock = threading.Lock()
        self._in_flight = 0
        self._arrivals: dict[int, float] = {}
        self._stopping = threading.Event()
        self._abandoned = threading.Event()

    @property
    def heard_s(self) -> float:
        """Seconds of audio fed so far."""
        return self.heard_samples / SAMPLE_RATE_HZ

    def stop(self) -> None:
        """Ends the input as if the source had ended here: the last captions still come."""
        self._stopping.set()

    def __iter__(self) -> Iterator[Caption]:
        self._chain.open(self.name, self._options)
        feeder = threading.Thread(target=self._feed, name=f"feed-{self.name}", daemon=True)
        feeder.start()
        finished = False
        try:
            yield from self._captions()
            finished = True
        finally:
            self._abandoned.set()
            self._stopping.set()
            if not finished:
                self._chain.drop(self.name)

    # The caller's thread.

    def _captions(self) -> Iterator[Caption]:
        ledger, count = Ledger(), 0
        for batch in self._in_order():
            for caption in self._chain.outcome(self.name, batch.future):
                ledger.check(caption)
                yield caption.stamped(self.name, count, self._latency(caption, batch))
                count += 1

    def _in_order(self) -> Iterator[_Arrived]:
        """Batches as they were sent; raises the source's error after the last one."""
        early: dict[int, _Arrived] = {}
        expected, ended = 0, None
        while ended is None or expected < ended.batches:
            event = self._events.get()
            if isinstance(event, _Ended):
                ended = event
                continue
            early[event.seq] = event
            while batch := early.pop(expected, None):
                yield batch
                expected += 1
        if ended.error is not None:
            raise ended.error

    def _latency(self, caption: Caption, batch: _Arrived) -> dict[str, int]:
        latency = {}
        if self._pace == "fast":  # sound that nobody waits for is early: that tells of no delay
            return latency
        heard = self._arrivals.get((caption.end - 1) // CHUNK_SAMPLES)
        if heard is not None:
            latency["partial_ms"] = _ms(batch.time - heard)
        if caption.kind == "final":
            latency["response_ms"] = _ms(batch.time - self._arrivals[batch.seq])
        return latency

    # The feeder's thread.

    def _feed(self) -> None:
        """Feeds all chunks, then ends the session; whatever fails here ends up in `_Ended`."""
        sent, error = 0, None
        try:
            for chunk in illustrated(self._chunks(), self._frames, self._stopping):
                if not self._take_slot():
                    return
                self._send(sent, chunk)
                sent += 1
        except Exception as raised:
            error = raised
        if not self._take_slot():
            return
        try:
            self._watch(sent, self._chain.finish(self.name, sent))
            self._events.put(_Ended(sent + 1, error))
        except Exception as raised:
            self._events.put(_Ended(sent, error or raised))

    def _chunks(self) -> Iterator[Chunk]:
        """Chunks of the source, each at its time; an error of the source comes after the last."""
        chunker = Chunker()
        state = chunker.init_state(self._options)
        clock = _Clock(self._pace, self._stopping)
        pieces, error = iter(self._pieces), None
        while not self._stopping.is_set():
            try:
                piece = next(pieces)
            except StopIteration:
                break
            except Exception as raised:
                error = raised
                break
            chunks, state = chunker.step(piece, state)
            for chunk in chunks:
                clock.wait_for(chunk)
                if self._stopping.is_set():
                    return
                yield chunk
        yield from chunker.flush(state)
        if error is not None:
            raise error

    def _send(self, seq: int, chunk: Chunk) -> None:
        if self._pace != "fast" and self._in_flight > LAG_CHUNKS:
            chunk = replace(chunk, update=False)
            self.skipped_updates += 1
        self._watch(seq, self._chain.step(self.name, seq, chunk))
        self.heard_samples += len(chunk.samples)

    def _watch(self, seq: int, future: Future) -> None:
        """Notes when batch ``seq`` came in, and when its result does."""

        def arrived(done: Future) -> None:
            with self._lock:
                self._in_flight -= 1
            self._slots.release()
            self._events.put(_Arrived(seq, time.monotonic(), done))

        self._arrivals[seq] = time.monotonic()
        self._arrivals.pop(seq - REMEMBERED_CHUNKS, None)
        with self._lock:
            self._in_flight += 1
        future.add_done_callback(arrived)

    def _take_slot(self) -> bool:
        """Waits until one more chunk may be in flight; False when nobody listens any more."""
        while not self._slots.acquire(timeout=POLL_S):
            if self._abandoned.is_set():
                return False
        return not self._abandoned.is_set()


class _Clock:
    """At the pace "real-time", holds back chunk k until k times 160 ms after the first."""

    def __init__(self, pace: Pace, stopping: threading.Event) -> None:
        self._paced = pace == "real-time"
        self._stopping = stopping
        self._begin: float | None = None

    def wait_for(self, chunk: Chunk) -> None:
        if not self._paced:
            return
        now = time.monotonic()
        if self._begin is None:
            self._begin = now
        due = self._begin + chunk.start // CHUNK_SAMPLES * CHUNK_MS / 1000
        if due > now:
            self._stopping.wait(due - now)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
