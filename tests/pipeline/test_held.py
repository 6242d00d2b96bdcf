"""What a session sends while its chain is busy, over a chain that answers when the test says so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from queue import Queue
from typing import Any

import numpy as np
import pytest

from dragoman.pipeline.session import LAG_PIECES, UNDER_WAY, Session
from dragoman.stages.illustrate import IllustrateStage
from dragoman.stages.messages import CHUNK_SAMPLES, Caption, Chunk, Speech, Text
from tests.pipeline.fake_stages import CountingSegments, picture
from tests.waiting import PATIENCE_S

NEVER_S = 0.1


class OneSegment:
    """All sound is one segment, a piece a chunk."""

    def init_state(self, options: Any) -> None:
        return None

    def step(self, item: Chunk, state: None) -> tuple[list[Speech], None]:
        return [Speech(0, item.start, item.samples, opens=item.start == 0)], None

    def flush(self, state: None) -> list[Speech]:
        return []


class Chain:
    """Notes batches, in order: their pieces, and the future of what becomes of them."""

    def __init__(self, segmenter: Any) -> None:
        self.segmenter = segmenter
        self.batches: Queue[tuple[list[Speech], Future]] = Queue()
        self.error: Exception | None = None

    def open(self, *_: Any) -> None:
        pass

    drop = prepare = open

    def step(self, session: str, *pieces: Speech) -> Future:
        if self.error is not None:
            raise self.error
        future: Future = Future()
        self.batches.put((list(pieces), future))
        return future

    def finish(self, session: str) -> Future:
        return self.step(session)

    def outcome(self, session: str, future: Future) -> list[Caption]:
        return future.result()

    def next(self) -> tuple[list[Speech], Future]:
        return self.batches.get(timeout=PATIENCE_S)


class Source:
    """Chunks of rising values, as many as the test lets out; a piece is one of them."""

    def __init__(self) -> None:
        self._pieces: Queue[np.ndarray | None] = Queue()
        self._count = 0

    def say(self, count: int) -> None:
        for _ in range(count):
            self._pieces.put(sound(self._count, 1))
            self._count += 1

    def end(self) -> None:
        self._pieces.put(None)

    def __iter__(self) -> Iterator[np.ndarray]:
        while (piece := self._pieces.get()) is not None:
            yield piece


class Listener:
    """A session in a thread of its own."""

    def __init__(self, pace: Any = "live", frames: Any = None, segmenter: Any = None) -> None:
        self.chain: Any = Chain(segmenter or OneSegment())
        self.source, self.captions, self.raised = Source(), [], None
        self.session = Session(self.chain, self.source, pace=pace, frames=frames)
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self) -> None:
        try:
            self.captions += self.session
        except Exception as error:
            self.raised = error

    def quiet(self) -> bool:
        """Nothing is sent for a while."""
        try:
            self.chain.batches.get(timeout=NEVER_S)
        except Exception:
            return True
        return False

    def busy(self) -> list[Future]:
        """As many batches of one chunk as may be under way."""
        self.source.say(UNDER_WAY)
        sent = [self.chain.next() for _ in range(UNDER_WAY)]
        assert [[len(c.samples) for c in chunks] for chunks, _ in sent] == [
            [CHUNK_SAMPLES]
        ] * UNDER_WAY
        assert not any(c.late for chunks, _ in sent for c in chunks)
        return [future for _, future in sent]

    def wait_for(self, chunks: int) -> None:
        """Until the session has heard so many."""
        for _ in range(int(PATIENCE_S / 0.01)):
            if self.session.heard_samples == chunks * CHUNK_SAMPLES:
                return
            threading.Event().wait(0.01)
        raise AssertionError("the session does not listen")


def sound(first: int, count: int) -> np.ndarray:
    """Chunks number ``first`` and on, each of a value of its own."""
    return np.repeat(np.arange(first, first + count, dtype=np.float32) / 1000, CHUNK_SAMPLES)


def heard(chunks: list[Speech]) -> np.ndarray:
    return np.concatenate([chunk.samples for chunk in chunks])


def test_what_comes_while_batches_are_under_way_goes_as_one_with_the_newest_update():
    listener = Listener()
    first, _ = listener.busy()
    listener.source.say(10)
    listener.wait_for(UNDER_WAY + 10)
    assert listener.quiet()
    first.set_result([])
    (early, late), _ = listener.chain.next()
    assert (early.late, late.late) == (True, False)
    assert len(early.samples) == CHUNK_SAMPLES and late.start == early.end
    assert early.start == UNDER_WAY * CHUNK_SAMPLES
    assert np.array_equal(heard([early, late]), sound(UNDER_WAY, 10))
    assert listener.session.skipped_updates == 9


def test_a_session_that_hardly_lags_keeps_every_update():
    listener = Listener()
    first, _ = listener.busy()
    count = LAG_PIECES - (UNDER_WAY - 1)
    listener.source.say(count)
    listener.wait_for(UNDER_WAY + count)
    assert listener.quiet()
    first.set_result([])
    chunks, _ = listener.chain.next()
    assert [len(chunk.samples) for chunk in chunks] == [CHUNK_SAMPLES] * count
    assert not any(chunk.late for chunk in chunks) and listener.session.skipped_updates == 0


def test_what_comes_behind_a_long_batch_makes_no_update_of_its_own():
    listener = Listener()
    first, second = listener.busy()
    listener.source.say(10)
    listener.wait_for(UNDER_WAY + 10)
    first.set_result([])
    _, long = listener.chain.next()
    second.set_result([])
    listener.source.say(1)
    (chunk,), _ = listener.chain.next()
    assert chunk.late and listener.session.skipped_updates == 10
    listener.source.say(1)
    listener.wait_for(UNDER_WAY + 12)
    long.set_result([])
    (newest,), _ = listener.chain.next()
    assert not newest.late, "nothing old is under way any more"


@pytest.mark.parametrize("pace", ["live", "fast"])
def test_the_end_of_the_source_waits_for_nothing(pace):
    listener = Listener(pace)
    futures = listener.busy()
    listener.source.say(5)
    listener.wait_for(UNDER_WAY + 5)
    listener.source.end()
    sent = []
    while not sent or sent[-1]:
        chunks, future = listener.chain.next()
        sent.append(chunks)
        futures.append(future)
    assert [len(chunks) for chunks in sent] == ([2, 0] if pace == "live" else [1] * 5 + [0])
    assert np.array_equal(heard(sum(sent, [])), sound(UNDER_WAY, 5))
    for future in reversed(futures):
        future.set_result([])
    listener.thread.join(PATIENCE_S)
    assert not listener.thread.is_alive() and listener.raised is None


def test_pictures_are_known_no_earlier_and_no_later_than_without_waiting():
    """Segments are of five chunks, so one begins at 0.8 s, and one at 1.6 s."""
    shown = [picture(second / 100) for second in (0, 40, 90, 200)]
    segmenter = IllustrateStage(CountingSegments())
    listener = Listener(frames=iter(shown), segmenter=segmenter)
    first, _ = listener.busy()
    listener.source.say(10)
    listener.wait_for(UNDER_WAY + 10)
    first.set_result([])
    pieces, _ = listener.chain.next()
    assert [(p.start // CHUNK_SAMPLES, p.closes, p.pictures) for p in pieces] == [
        (2, False, ()),
        (3, True, ()),
        (5, True, (shown[1], shown[2])),
        (10, False, (shown[2],)),
    ]
    assert [p.late for p in pieces] == [True, True, True, False]
    assert listener.session.skipped_updates == 10 - 3, "the ends of segments are updates"
    assert np.array_equal(heard(pieces), sound(UNDER_WAY, 10))


def test_latencies_count_from_when_the_sound_came_not_from_when_it_was_sent():
    listener = Listener()
    first, second = listener.busy()
    listener.source.say(10)
    listener.wait_for(UNDER_WAY + 10)
    threading.Event().wait(0.2)
    first.set_result([])
    _, held = listener.chain.next()
    second.set_result([])
    end = (UNDER_WAY + 10) * CHUNK_SAMPLES
    held.set_result([Caption("final", 0, 0, end, "es", "en", Text("a"), Text("b"))])
    listener.source.end()
    listener.chain.next()[1].set_result([])
    listener.thread.join(PATIENCE_S)
    (caption,) = listener.captions
    assert caption.latency["response_ms"] >= caption.latency["partial_ms"] >= 200


def held_and_refused() -> tuple[Listener, Future]:
    """A session whose held chunks could not be sent, and the batch that is still under way."""
    listener = Listener()
    first, second = listener.busy()
    listener.source.say(10)
    listener.wait_for(UNDER_WAY + 10)
    listener.chain.error = RuntimeError("no more calls")
    second.set_result([])
    return listener, first


def test_an_error_while_sending_what_was_held_ends_the_session():
    listener, first = held_and_refused()
    first.set_result([])
    listener.thread.join(PATIENCE_S)
    assert isinstance(listener.raised, RuntimeError)


def test_an_error_is_not_forgotten_when_the_source_ends_meanwhile():
    """What was held is lost; what comes later could be sent."""
    listener, first = held_and_refused()
    listener.chain.error = None
    listener.source.end()
    listener.chain.next()[1].set_result([])
    first.set_result([])
    listener.thread.join(PATIENCE_S)
    assert isinstance(listener.raised, RuntimeError)
