import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.stages.chunk import Chunker
from dragoman.stages.contract import StageHost
from dragoman.stages.messages import CHUNK_SAMPLES, SessionOptions


def run(pieces: list[np.ndarray]):
    chunker = Chunker()
    state = chunker.init_state(SessionOptions())
    out = []
    for piece in pieces:
        chunks, state = chunker.step(piece, state)
        assert len(state.rest) < CHUNK_SAMPLES
        out += chunks
    return out, chunker.flush(state)


@given(st.lists(st.integers(0, 7_000), max_size=12))
def test_every_sample_once_in_whole_chunks(sizes):
    samples = np.arange(sum(sizes), dtype=np.float32)
    pieces = np.split(samples, np.cumsum(sizes)[:-1]) if sizes else []
    whole, rest = run(pieces)
    assert all(len(chunk.samples) == CHUNK_SAMPLES for chunk in whole)
    assert len(whole) == len(samples) // CHUNK_SAMPLES
    assert len(rest) == (1 if len(samples) % CHUNK_SAMPLES else 0)
    for chunk in whole + rest:
        end = chunk.start + len(chunk.samples)
        np.testing.assert_array_equal(chunk.samples, samples[chunk.start : end])
        assert not chunk.late


def test_a_chunk_appears_with_its_last_sample():
    chunker = Chunker()
    state = chunker.init_state(SessionOptions())
    none, state = chunker.step(np.zeros(CHUNK_SAMPLES - 1, np.float32), state)
    one, state = chunker.step(np.zeros(1, np.float32), state)
    assert (len(none), len(one), len(chunker.flush(state))) == (0, 1, 0)


def test_what_was_sent_does_not_follow_the_callers_buffer():
    buffer = np.ones(CHUNK_SAMPLES + 1, np.float32)
    chunker = Chunker()
    (chunk,), state = chunker.step(buffer, chunker.init_state(SessionOptions()))
    buffer[:] = 9
    assert chunk.samples.max() == 1
    assert state.rest.max() == 1


@pytest.mark.parametrize("bad", [np.zeros((2, 8), np.float32), np.zeros(8), np.zeros(8, np.int16)])
def test_other_samples_are_refused(bad):
    chunker = Chunker()
    with pytest.raises(ValueError, match="float32"):
        chunker.step(bad, chunker.init_state(SessionOptions()))


def test_runs_in_a_host():
    host = StageHost(Chunker())
    host.open("a", SessionOptions())
    chunks = host.step("a", 0, [np.zeros(4_000, np.float32)])
    assert [chunk.start for chunk in chunks + host.close("a")] == [0, CHUNK_SAMPLES]
