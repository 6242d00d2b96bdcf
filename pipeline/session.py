"""Drives one session: pieces of audio in, captions out as soon as they exist.

A thread reads the source, cuts it into chunks, finds the speech in them and feeds that to the
chain; the caller's thread iterates over captions. A bounded number of pieces of speech is in
flight: then the source waits, and no audio is dropped. Where sound has a clock, few batches are
under way: what comes meanwhile waits here, and goes as one when one of them is through. So a
session that lags does not fill the chain with updates that are old when they are made: all but the
newest are skipped, and the sound in front of it is encoded in one piece. At the pace "fast" what a
chunk brings is a batch, and every update is made. Pictures, where there are any, go along with the
segment in whose time they came up.

Where the process of an actor ends, the caller's thread opens the session anew and says again what
had not come through (:mod:`pipeline.replay`); what is heard meanwhile waits.
"""

import logging
import threading
import time
import uuid
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from queue import SimpleQueue
from typing import Literal

import numpy as np

from dragoman.pipeline.chain import Chain
from dragoman.pipeline.events import Ledger
from dragoman.pipeline.reel import Warn, illustrated
from dragoman.pipeline.replay import Replay
from dragoman.pipeline.runner import ActorDied
from dragoman.pipeline.segments import parts
from dragoman.stages.chunk import Chunker
from dragoman.stages.messages import (
    CHUNK_MS,
    CHUNK_SAMPLES,
    SAMPLE_RATE_HZ,
    Caption,
    Chunk,
    Picture,
    SessionOptions,
    Speech,
)

log = logging.getLogger(__name__)

# A file is heard as if it were spoken now, "real-time", or "fast". "live" is a source with a clock
# of its own: a sound card that runs a little fast would wait for ours, ever further behind.
Pace = Literal["real-time", "live", "fast"]
MAX_IN_FLIGHT = 32  # pieces of speech: about one comes of a chunk
UNDER_WAY = 2  # batches: one that is decoded, and one that is encoded meanwhile
LAG_PIECES = 3
REMEMBERED_CHUNKS = 1024  # arrival times kept for latencies: far more than a segment has


@dataclass(eq=False)
class _Batch:
    """A batch under way: what will come of it, since when its sound is there, how many pieces it
    has, and how often the session had been opened anew; then, at ``time``, it is ``through``.
    """

    future: Future
    since: float
    pieces: int
    opening: int
    time: float = 0.0
    through: threading.Event = field(default_factory=threading.Event)


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
    it has heard to its own arrival here, `lag_ms`, the same from when that chunk was due, so with
    all that it had to wait for a place; and a final one `response_ms`, from the arrival of the
    chunk that closed its segment, or of the first that was sent together with it. Raises
    PipelineError when the session fails, or what the source raised (after the captions of what
    could be read). Where the process of an actor ends ``warn`` is told, by the caller's thread, and
    captions come later; none is lost, and what was committed stays.

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
        warn: Warn = log.warning,
    ) -> None:
        self.name = name or uuid.uuid4().hex[:12]
        self.heard_samples = 0
        self.skipped_updates = 0
        self._chain, self._pieces, self._frames, self._warn = chain, pieces, frames, warn
        self._pace: Pace = pace
        self._options = options or SessionOptions()
        self._changed = threading.Condition()  # of what follows, on a lock that one may take twice
        self._batches: SimpleQueue[_Batch | None] = SimpleQueue()  # as sent; None: that was all
        self._replay = Replay()
        self._openings = 0  # after the first one
        self._is_open = True
        self._ended = False  # nothing more will be heard
        self._error: Exception | None = None  # the first one, to be raised behind all captions
        self._sent: list[_Batch] = []  # that may still be under way
        self._under_way = 0  # batches
        self._in_flight = 0  # pieces of batches under way
        self._held: list[Speech] = []
        self._held_since = self._heard_at = 0.0
        self._arrivals: dict[int, float] = {}  # of chunks
        self._begun = 0.0  # the arrival of the first one
        self._stopping = threading.Event()
        self._abandoned = False

    @property
    def heard_s(self) -> float:
        """Seconds of audio fed so far."""
        return self.heard_samples / SAMPLE_RATE_HZ

    @property
    def lag_s(self) -> float:
        """For how many seconds the oldest sound is here that waits for captions; 0: none waits."""
        with self._changed:
            since = [batch.since for batch in self._sent if not batch.through.is_set()]
            since += [self._held_since] if self._held else []
        return time.monotonic() - min(since) if since else 0.0

    def stop(self) -> None:
        """Ends the input as if the source had ended here: the last captions still come."""
        self._stopping.set()

    def __iter__(self) -> Generator[Caption, None, None]:
        self._chain.open(self.name, self._options)
        ledger, count, finished = Ledger(), 0, False
        try:
            if self._pace != "fast":
                self._chain.prepare()
            feeder = threading.Thread(target=self._feed, name=f"feed-{self.name}", daemon=True)
            feeder.start()
            for batch, captions in self._in_order():
                for made in captions:
                    caption = ledger.again(made) if self._openings else made
                    if caption is None:
                        continue
                    ledger.check(caption)
                    latency = {} if self._pace == "fast" else self._latency(caption, batch)
                    yield replace(caption, session=self.name, seq=count, latency=latency)
                    count += 1
            finished = True
        finally:
            self._leave()
            if not finished:
                self._chain.drop(self.name)

    # The caller's thread.

    def _in_order(self) -> Iterator[tuple[_Batch, list[Caption]]]:
        """Batches as they were sent, and what came of them; then raises what failed here."""
        while (batch := self._batches.get()) is not None:
            batch.through.wait()
            try:
                captions = self._chain.outcome(self.name, batch.future)
            except ActorDied as death:
                self._recover(death, batch.since)
                continue
            with self._changed:
                self._replay.through()
            yield batch, captions
        if self._error is not None:
            raise self._error

    def _recover(self, death: ActorDied, since: float) -> None:
        """Says again what did not come through, to new processes; the sound of the first batch that
        did not is there ``since`` then.
        """
        with self._changed:
            self._is_open = False
            self._openings += 1
        self._warn(
            f"a worker process ended at {self.heard_s:.1f} s: a new one takes its place and "
            "catches up; nothing is lost"
        )
        self._replay.reopen(self._chain, self.name, self._options, death)
        with self._changed:
            self._is_open, self._batches = True, SimpleQueue()
            self._under_way = self._in_flight = 0
            pieces = self._replay.again()
            self._send(pieces, since, len(pieces))
            if self._ended:
                self._finish()

    def _leave(self) -> None:
        with self._changed:
            self._abandoned = True
            self._stopping.set()
            self._changed.notify_all()

    def _latency(self, caption: Caption, batch: _Batch) -> dict[str, int]:
        """Of sound that somebody waits for: in milliseconds, see :class:`Session`."""
        latency = {}
        heard = self._arrivals.get((caption.end - 1) // CHUNK_SAMPLES)
        if heard is not None:
            latency["partial_ms"] = round(1000 * (batch.time - heard))
            due = self._begun + (caption.end - 1) // CHUNK_SAMPLES * CHUNK_MS / 1000
            latency["lag_ms"] = max(latency["partial_ms"], round(1000 * (batch.time - due)))
        if caption.kind == "final":
            latency["response_ms"] = round(1000 * (batch.time - batch.since))
        return latency

    # The feeder's thread.

    def _feed(self) -> None:
        """Sends all speech, or lets it wait, then ends the session."""
        try:
            for piece in parts(self._heard(), self._chain.segmenter, self._options):
                with self._changed:
                    if not self._held:
                        self._held_since = self._heard_at
                    self._held.append(piece)
                    self._send_held()
        except Exception as raised:
            self._error = self._error or raised
        with self._changed:
            self._ended = True
            self._finish()

    def _heard(self) -> Iterator[Chunk]:
        """Chunks in their time, as soon as there is room for the speech in them."""
        chunks = self._chunks()
        if self._pace == "real-time":
            chunks = paced(chunks, self._stopping)
        if self._frames is not None:
            chunks = illustrated(chunks, self._frames, self._stopping)
        for chunk in chunks:
            number = chunk.start // CHUNK_SAMPLES
            with self._changed:
                self._changed.wait_for(
                    lambda: self._in_flight + len(self._held) < MAX_IN_FLIGHT or self._abandoned
                )
                if self._abandoned:
                    return
                self._heard_at = self._arrivals[number] = time.monotonic()
                self._begun = self._begun or self._heard_at
                self._arrivals.pop(number - REMEMBERED_CHUNKS, None)
                self.heard_samples += len(chunk.samples)
            yield chunk

    def _chunks(self) -> Iterator[Chunk]:
        """Chunks of the source; where that fails they end as if it had ended."""
        chunker = Chunker()
        state = chunker.init_state(self._options)
        pieces = iter(self._pieces)
        while not self._stopping.is_set():
            try:
                piece = next(pieces)
            except StopIteration:
                break
            except Exception as raised:
                self._error = raised
                break
            chunks, state = chunker.step(piece, state)
            for chunk in chunks:
                if self._stopping.is_set():
                    return
                yield chunk
        yield from chunker.flush(state)

    # Any thread, which has the lock.

    def _send_held(self) -> None:
        """Sends what waits as one batch, if it need not wait for one that is under way."""
        waits = self._pace != "fast" and self._under_way >= UNDER_WAY and not self._ended
        if not self._held or waits or not self._is_open:
            return
        pieces, self._held = self._held, []
        lags = self._pace != "fast" and self._in_flight + len(pieces) > LAG_PIECES
        self._send(self._catching_up(pieces) if lags else pieces, self._held_since, len(pieces))

    def _finish(self) -> None:
        """Sends what waits, and that it was all."""
        if self._is_open:
            self._send_held()
            self._send([], time.monotonic(), last=True)
            self._batches.put(None)

    def _send(self, pieces: list[Speech], since: float, count: int = 0, last: bool = False) -> None:
        """Sends a batch, made of ``count`` pieces whose sound is there ``since`` then."""
        if self._abandoned:
            return
        try:
            step = partial(self._chain.step, self.name, *pieces)
            future = self._chain.finish(self.name) if last else step()
        except Exception as error:
            self._error = self._error or error
            self._batches.put(None)
            return
        self._replay.sent(pieces)
        batch = _Batch(future, since, count, self._openings)
        self._batches.put(batch)
        self._sent = [*(one for one in self._sent if not one.through.is_set()), batch]
        self._under_way += 1
        self._in_flight += count
        future.add_done_callback(partial(self._through, batch))

    def _catching_up(self, pieces: list[Speech]) -> list[Speech]:
        """``pieces`` as few, with no update but the newest, and those that end a segment."""
        *older, newest = _joined(pieces)
        late = self._in_flight > LAG_PIECES
        few = [*(replace(piece, late=True) for piece in older), replace(newest, late=late)]
        self.skipped_updates += len(pieces) - sum(not p.late or p.closes for p in few)
        return few

    def _through(self, batch: _Batch, _: Future) -> None:
        """There is room for what waits; what has failed is for the caller's thread."""
        batch.time = time.monotonic()
        with self._changed:
            if batch.opening == self._openings:
                self._under_way -= 1
                self._in_flight -= batch.pieces
                self._send_held()
                self._changed.notify_all()
        batch.through.set()


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


def _joined(pieces: list[Speech]) -> list[Speech]:
    """``pieces`` as few: the first alone, from which stages learn that updates are left out, and
    what comes behind it of each segment in one.
    """
    groups: list[list[Speech]] = []
    for piece in pieces:
        if len(groups) < 2 or piece.opens:
            groups.append([])
        groups[-1].append(piece)
    return [
        replace(
            group[0],
            samples=np.concatenate([piece.samples for piece in group]),
            closes=group[-1].closes,
        )
        for group in groups
    ]
