import threading
import time

import numpy as np
import pytest

from dragoman.errors import InputError
from dragoman.pipeline.reel import AHEAD, Reel, illustrated
from dragoman.stages.illustrate import REMEMBERED
from dragoman.stages.messages import CHUNK_SAMPLES, Chunk, Picture, VideoFrame
from tests.waiting import PATIENCE_S

SECOND = 16_000


def picture(time_s: float, index: int = 0) -> Picture:
    return Picture(VideoFrame(time_s, index))


@pytest.fixture
def stopping():
    event = threading.Event()
    yield event
    event.set()


def times(pictures):
    return [p.frame.time for p in pictures]


def test_pictures_come_with_the_sound_they_belong_to(stopping):
    reel = Reel([picture(t) for t in (0, 0.5, 1, 2.5)], stopping)
    assert times(reel.until(0)) == []
    assert times(reel.until(SECOND)) == [0, 0.5]
    assert times(reel.until(SECOND)) == []
    assert times(reel.until(2 * SECOND)) == [1]
    assert times(reel.until(9 * SECOND)) == [2.5]
    assert times(reel.until(99 * SECOND)) == []


def test_the_speed_of_the_source_changes_nothing(stopping):
    def slow():
        for t in range(4):
            time.sleep(0.15)
            yield picture(t)

    reel = Reel(slow(), stopping)
    assert [times(reel.until(end * SECOND + 1)) for end in range(5)] == [[0], [1], [2], [3], []]


def test_it_reads_only_a_little_ahead(stopping):
    read = []

    def source():
        for t in range(50):
            read.append(t)
            yield picture(t)

    reel = Reel(source(), stopping)
    reel.until(10 * SECOND)
    time.sleep(0.3)
    assert 11 <= len(read) <= 10 + 1 + AHEAD + 1


def test_of_many_pictures_at_once_the_newest_are_kept(stopping):
    reel = Reel((picture(t / 100) for t in range(100)), stopping)
    kept = reel.until(SECOND)
    assert len(kept) == REMEMBERED and kept[-1].frame.time == 0.99


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError("the cable was pulled"), "ended early (OSError: the cable was pulled): captions"),
        (InputError("talk.mp4: 3 damaged packets"), "talk.mp4: 3 damaged packets"),
    ],
)
def test_a_source_that_fails_ends_the_pictures_only_and_says_why(stopping, error, sentence, caplog):
    def source():
        yield picture(0)
        yield picture(2)
        raise error

    said = []
    reel = Reel(source(), stopping, said.append)
    assert times(reel.until(SECOND)) == [0]
    time.sleep(0.3)
    assert said == [], "the sound is not that far yet"
    assert times(reel.until(9 * SECOND)) == [2] and sentence in said[0]
    assert times(reel.until(10 * SECOND)) == [] and len(said) == 1
    assert times(Reel(source(), stopping).until(9 * SECOND)) == [0, 2]
    assert sentence in caplog.text


def test_chunks_carry_the_pictures_that_came_up_in_them(stopping):
    chunks = [Chunk(k * CHUNK_SAMPLES, np.zeros(CHUNK_SAMPLES, np.float32)) for k in range(4)]
    shown = list(illustrated(chunks, [picture(0), picture(0.1), picture(0.5)], stopping))
    assert [times(chunk.pictures) for chunk in shown] == [[0, 0.1], [], [], [0.5]]
    assert [chunk.start for chunk in shown] == [chunk.start for chunk in chunks]


@pytest.mark.parametrize("end", ["close", "stop"])
def test_ending_ends_the_thread_and_the_waiting(stopping, end):
    gate = threading.Event()

    def source():
        yield picture(0)
        gate.wait(PATIENCE_S)
        for t in range(100):
            yield picture(t)

    reel = Reel(source(), stopping)
    threading.Timer(0.2, reel.close if end == "close" else stopping.set).start()
    assert times(reel.until(9 * SECOND)) == [0]
    gate.set()
    for thread in threading.enumerate():
        if thread.name == "frames":
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
