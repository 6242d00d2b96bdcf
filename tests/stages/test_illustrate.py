from dataclasses import replace

import numpy as np
import pytest

from dragoman.stages.illustrate import REMEMBERED, IllustrateStage, choose
from dragoman.stages.messages import (
    CHUNK_SAMPLES,
    Chunk,
    Picture,
    SessionOptions,
    Speech,
    VideoFrame,
)
from dragoman.stages.segment import SegmentStage
from tests.pipeline.fake_stages import CountingSegments

OPTIONS = SessionOptions()


def picture(time_s: float, index: int = 0) -> Picture:
    return Picture(VideoFrame(time_s, index), np.zeros((2, 2, 3), np.uint8))


@pytest.mark.parametrize(
    "times, start_s, chosen",
    [
        ([], 1, []),
        ([0], 1, [0]),
        ([0, 1], 1, [1]),  # current from its first sample on
        ([0, 1, 2], 1.5, [1, 2]),
        ([0, 1, 2, 3], 1.5, [1, 3]),  # the newest, where several came up
        ([2, 3], 1, [2, 3]),
        ([2], 1, [2]),
    ],
)
def test_the_picture_at_the_beginning_and_the_newest_one(times, start_s, chosen):
    found = choose([picture(t) for t in times], start_s * 16_000)
    assert [p.frame.time for p in found] == chosen


def run(stage, chunks):
    state, out = stage.init_state(OPTIONS), []
    for chunk in chunks:
        pieces, state = stage.step(chunk, state)
        out += pieces
    return out + stage.flush(state), state


def chunks(count, shown: dict[int, list[float]]):
    samples = np.zeros(CHUNK_SAMPLES, np.float32)
    return [
        Chunk(k * CHUNK_SAMPLES, samples, True, tuple(map(picture, shown.get(k, []))))
        for k in range(count)
    ]


def frames(pieces: list[Speech]) -> list[list[float]]:
    """By segment; pieces that do not open one have no pictures."""
    assert all(not piece.pictures for piece in pieces if not piece.opens)
    return [[p.frame.time for p in piece.pictures] for piece in pieces if piece.opens]


def test_a_picture_belongs_to_the_segments_it_is_current_in():
    """Segments of five chunks, 0.8 s."""
    shown = {0: [0.0], 5: [0.9], 7: [1.2], 12: [2.0], 13: [2.1]}
    pieces, _ = run(IllustrateStage(CountingSegments()), chunks(20, shown))
    assert frames(pieces) == [[0.0], [0.0, 0.9], [1.2], [2.1]]


def test_without_pictures_nothing_changes():
    plain, _ = run(CountingSegments(), chunks(12, {}))
    same, _ = run(IllustrateStage(CountingSegments()), chunks(12, {}))
    assert [(p.segment, p.start, p.opens, p.closes, p.pictures) for p in same] == [
        (p.segment, p.start, p.opens, p.closes, ()) for p in plain
    ]


def test_with_the_real_segmenter_a_segment_has_what_was_there_before_its_speech():
    time_s = np.arange(2 * 16_000) / 16_000
    buzz = sum(np.sin(2 * np.pi * 150 * k * time_s) / k for k in range(1, 20))
    buzz *= 1 + 0.5 * np.sin(2 * np.pi * 4 * time_s)  # as loud as syllables are
    quiet = np.zeros(16_000, np.float32)
    sound = np.concatenate([quiet, 0.2 * buzz, quiet, 0.2 * buzz, quiet]).astype(np.float32)
    pictures = [picture(0.0), picture(0.9), picture(1.6), picture(3.4)]
    feed = []
    for start in range(0, len(sound), CHUNK_SAMPLES):
        samples = sound[start : start + CHUNK_SAMPLES]
        end = start + len(samples)
        feed.append(
            Chunk(start, samples, True, tuple(p for p in pictures if start <= p.start < end))
        )
    pieces, _ = run(IllustrateStage(SegmentStage()), feed)
    starts = [piece.start / 16_000 for piece in pieces if piece.opens]
    assert 0.5 < starts[0] < 0.9 and 3.4 < starts[1] < 4
    assert frames(pieces) == [[0.0, 0.9], [3.4]]


def test_pictures_kept_are_bounded():
    shown = {k: [k * 0.16] for k in range(100)}
    pieces, state = run(IllustrateStage(CountingSegments()), chunks(100, shown))
    assert len(state.pictures) == REMEMBERED
    assert max(map(len, frames(pieces))) <= 2


def test_pictures_out_of_order_are_refused():
    with pytest.raises(ValueError, match="in the order of their times"):
        run(IllustrateStage(CountingSegments()), chunks(3, {0: [1.0], 1: [0.5]}))


def test_a_last_piece_that_opens_its_segment_has_pictures_too():
    class Late(CountingSegments):
        def step(self, item, state):
            return [], item

        def flush(self, state):
            return [Speech(0, state.start, state.samples, opens=True, closes=True)]

    (piece,), _ = run(IllustrateStage(Late()), chunks(1, {0: [0.0]}))
    assert replace(piece.pictures[0], pixels=None) == Picture(VideoFrame(0.0, 0))
