"""Drives one session: pieces of audio in, captions out as soon as they exist.

A thread reads the source, cuts it into chunks and feeds the chain; the caller's thread iterates
over captions. A bounded number of chunks is in flight: then the source waits, and no audio is
dropped. Where sound has a clock, few batches are under way: what comes meanwhile waits here, and
goes as one when one of them is through. So a session that lags does not fill the chain with updates
that are old when they are made: all but the newest are skipped, and the sound in front of it is
encoded in one piece. At the pace "fast" every chunk is a batch, and every update is made. Pictures,
where there are any, go along with the chunk in whose time they came up.
"""

import threading
import time
import uuid
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue
from typing import Literal

import numpy as np

from dragoman.pipeline.chain import Chain
from dragoman.pipeline.events import Ledger
from dragoman.pipeline.reel import illustrated
from dragoman.stages.chunk import Chunker
from dragoman.stages.messages import (
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
MAX_IN_FLIGHT = 32  # chunks
UNDER_WAY = 2  # batches: one that is decoded, and one that is encoded meanwhile
LAG_CHUNKS = 3
REMEMBERED_CHUNKS = 1024  # arrival times kept for latencies: far more than a segment has
POLL_S = 0.1


@dataclass(frozen=True)
class _Arrived:
    """The result of batch ``seq``, whose sound came from ``since`` on, there at ``time``."""

    seq: int
    since: float
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
) -> Generator[Caption, None, None]:
    """Captions of a source: float32 mono pieces at 16 kHz. See :class:`Session`."""
    return iter(Session(chain, pieces, options, pace, session_name, frames))


class Session:
    """One stream through a chain, to be iterated over once.

    Unless the pace is "fast" every caption carries `partial_ms`, from the arrival of the last chunk
    it has heard to its own arrival here, and a final one `response_ms`, from the arrival of the
    chunk that closed its segment, or of the first that was sent together with it. Raises
    PipelineError when the session fails, or what the source raised (after the captions of what
    could be read).

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
        self._lock = threading.RLock()  # of what follows; a batch may be through when it is sent
        self._sent = self._under_way = 0  # batches
        self._in_flight = 0  # chunks of batches under way
        self._held: list[Chunk] = []
        self._arrivals: dict[int, float] = {}  # of chunks
        self._stopping = threading.Event()
        self._abandoned = threading.Event()

    @property
    def heard_s(self) -> float:
        """Seconds of audio fed so far."""
        return self.heard_samples / SAMPLE_RATE_HZ

    def stop(self) -> None:
        """Ends the input as if the source had ended here: the last captions still come."""
        self._stopping.set()

    def __iter__(self) -> Generator[Caption, None, None]:
        self._chain.open(self.name, self._options)
        feeder = threading.Thread(target=self._feed, name=f"feed-{self.name}", daemon=True)
        feeder.start()
        ledger, count, finished = Ledger(), 0, False
        try:
            for batch in self._in_order():
                for caption in self._chain.outcome(self.name, batch.future):
                    ledger.check(caption)
                    latency = {} if self._pace == "fast" else self._latency(caption, batch)
                    yield replace(caption, session=self.name, seq=count, latency=latency)
                    count += 1
            finished = True
        finally:
            self._abandoned.set()
            self._stopping.set()
            if not finished:
                self._chain.drop(self.name)

    # The caller's thread.

    def _in_order(self) -> Iterator[_Arrived]:
        """Batches as they were sent; raises the source's error after the last one."""
        early: dict[int, _Arrived] = {}
        expected, ended = 0, None
        while ended is None or expected < ended.batches:
            event = self._events.get()
            if isinstance(event, _Ended):
                ended = ended or event  # the first says what failed
                continue
            early[event.seq] = event
            while batch := early.pop(expected, None):
                yield batch
                expected += 1
        if ended.error is not None:
            raise ended.error

    def _latency(self, caption: Caption, batch: _Arrived) -> dict[str, int]:
        """Of sound that somebody waits for: in milliseconds, see :class:`Session`."""
        latency = {}
        heard = self._arrivals.get((caption.end - 1) // CHUNK_SAMPLES)
        if heard is not None:
            latency["partial_ms"] = round(1000 * (batch.time - heard))
        if caption.kind == "final":
            latency["response_ms"] = round(1000 * (batch.time - batch.since))
        return latency

    # The feeder's thread.

    def _feed(self) -> None:
        """Feeds all chunks, then ends the session; whatever fails here ends up in `_Ended`."""
        error = None
        try:
            chunks = self._chunks()
            if self._pace == "real-time":
                chunks = paced(chunks, self._stopping)
            if self._frames is not None:
                chunks = illustrated(chunks, self._frames, self._stopping)
            for chunk in chunks:
                if not self._take_slot():
                    return
                self._take(chunk)
        except Exception as raised:
            error = raised
        if self._take_slot():
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        with self._lock:
            try:
                self._send_held()
                self._watch([], time.monotonic(), self._chain.finish(self.name))
            except Exception as raised:
                error = error or raised
            self._events.put(_Ended(self._sent, error))

    def _chunks(self) -> Iterator[Chunk]:
        """Chunks of the source; an error of the source comes after the last."""
        chunker = Chunker()
        state = chunker.init_state(self._options)
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
                if self._stopping.is_set():
                    return
                yield chunk
        yield from chunker.flush(state)
        if error is not None:
            raise error

    def _take(self, chunk: Chunk) -> None:
        """Sends ``chunk``, or lets it wait until a batch is through."""
        number = chunk.start // CHUNK_SAMPLES
        with self._lock:
            self._arrivals[number] = time.monotonic()
            self._arrivals.pop(number - REMEMBERED_CHUNKS, None)
            self.heard_samples += len(chunk.samples)
            self._held.append(chunk)
            if self._pace == "fast" or self._under_way < UNDER_WAY:
                self._send_held()

    def _send_held(self) -> None:
        """Sends what waits as one batch."""
        chunks, self._held = self._held, []
        if chunks:
            since = self._arrivals[chunks[0].start // CHUNK_SAMPLES]
            lags = self._pace != "fast" and self._in_flight + len(chunks) > LAG_CHUNKS
            batch = self._catching_up(chunks) if lags else chunks
            self._watch(chunks, since, self._chain.step(self.name, *batch))

    def _catching_up(self, chunks: list[Chunk]) -> list[Chunk]:
        """``chunks`` in few pieces, with one update at most."""
        late = self._in_flight > LAG_CHUNKS
        self.skipped_updates += len(chunks) - (not late)
        *older, newest = map(_joined, _pieces(chunks))
        return [*(replace(piece, late=True) for piece in older), replace(newest, late=late)]

    def _watch(self, chunks: list[Chunk], since: float, future: Future) -> None:
        """Notes that the next batch was sent, and when its result is there."""
        through = partial(self._through, self._sent, since, len(chunks))
        self._sent += 1
        self._under_way += 1
        self._in_flight += len(chunks)
        future.add_done_callback(through)

    def _through(self, seq: int, since: float, chunks: int, done: Future) -> None:
        """Batch ``seq`` of so many ``chunks`` is done: there is room for what waits."""
        now = time.monotonic()
        with self._lock:
            self._under_way -= 1
            self._in_flight -= chunks
            try:
                self._send_held()
            except Exception as error:
                self._events.put(_Ended(self._sent, error))
        self._slots.release(max(1, chunks))
        self._events.put(_Arrived(seq, since, now, done))

    def _take_slot(self) -> bool:
        """Waits until one more chunk may be in flight; False when nobody listens any more."""
        while not self._slots.acquire(timeout=POLL_S):
            if self._abandoned.is_set():
                return False
        return not self._abandoned.is_set()


def paced(chunks: Iterable[Chunk], stopping: threading.Event) -> Iterator[Chunk]:
    """``chunks`` as if they were spoken now: number k not before k times 160 ms after the first."""
    begin: float | None = None
    for chunk in chunks:
        now = time.monotonic()
        begin = now if begin is None else begin
        stopping.wait(max(0.0, begin + chunk.start // CHUNK_SAMPLES * CHUNK_MS / 1000 - now))
        if stopping.is_set():
            return
        yield chunk


def _pieces(chunks: list[Chunk]) -> list[list[Chunk]]:
    """``chunks`` in few pieces: the first alone, from which stages learn that updates are left out,
    and no pictures but at the start of one, so that sound meets those that were known by then.
    """
    pieces: list[list[Chunk]] = []
    for chunk in chunks:
        if len(pieces) < 2 or chunk.pictures:
            pieces.append([])
        pieces[-1].append(chunk)
    return pieces


def _joined(piece: list[Chunk]) -> Chunk:
    return replace(piece[0], samples=np.concatenate([chunk.samples for chunk in piece]))
