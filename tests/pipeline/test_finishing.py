"""A second reading hears each segment of the log once more, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from dragoman.errors import PipelineError
from dragoman.pipeline.finishing import Difference, difference, read_again, spans
from dragoman.pipeline.recipes import Recipe
from dragoman.stages.messages import (
    CHUNK_SAMPLES,
    Caption,
    SessionOptions,
    Text,
    VideoFrame,
)
from tests.pipeline.chains import pool_of
from tests.pipeline.fake_stages import POISON, CountingCaptions, Making, fakes, tone

OPTIONS = SessionOptions()


def live(number: int, chunks: tuple[int, int], text: str = "live") -> Caption:
    start, end = (CHUNK_SAMPLES * chunk for chunk in chunks)
    frames = (VideoFrame(float(number), number),)
    said = Text(text)
    return Caption("final", number, start, end, "es", "en", said, said, frames=frames)


LOG = [live(0, (1, 4)), live(1, (6, 8)), live(2, (8, 13))]


class Asked(CountingCaptions):
    """Says how it was asked."""

    def step(self, item, state):
        captions, state = super().step(item, state)
        text = Text(state[0].prompt_style)
        return [replace(caption, transcript=text) for caption in captions], state


def read(log=LOG, sound=None, stages=None, **options) -> list[Caption]:
    pool = pool_of((stages or fakes())[1:], 1)
    try:
        return [*read_again(log, [tone(14)] if sound is None else sound, OPTIONS, pool, **options)]
    finally:
        pool.stop()


@pytest.mark.parametrize("size", [501, CHUNK_SAMPLES, 99_999])
def test_the_sound_of_each_segment_is_cut_out_of_the_stream(size):
    whole = np.arange(14 * CHUNK_SAMPLES, dtype=np.float32)[: 12 * CHUNK_SAMPLES + 7]
    pieces = np.split(whole, range(size, len(whole), size))
    for caption, samples in zip(LOG, spans(LOG, pieces), strict=True):
        assert np.array_equal(samples, whole[caption.start : caption.end])


def test_every_caption_is_read_anew_and_keeps_its_place_and_pictures():
    again = read()
    assert [one.transcript.whole for one in again] == ["w0 w1 w2", "w0 w1", "w0 w1 w2 w3 w4"]
    assert [one.segment for one in again] == [0, 1, 2]
    assert [one.frames for one in again] == [one.frames for one in LOG]
    assert [one.end for one in again] == [one.end for one in LOG]
    for one, before in zip(again, LOG, strict=True):
        times = one.transcript.spans
        assert len(times) == len(one.transcript.whole.split())
        assert before.start <= times[0][0] and times[-1][1] <= before.end


def test_what_is_not_heard_again_stays():
    """The sound ends early, even within a segment, or the model has nothing to say."""
    for chunks, lacking in ((6, 2), (7, 2), (11, 1)):
        told: list[str] = []
        found = read(sound=[tone(chunks)], warn=told.append)
        assert found[-lacking:] == LOG[-lacking:], chunks
        assert [one.transcript.whole for one in found[:-lacking]] != ["live"] * (3 - lacking)
        assert told == [
            f"the sound ends before {lacking} of 3 segments do: these stay as they were heard live"
        ]

    class Silent(CountingCaptions):
        def step(self, item, state):
            return [], state

    stages = (*fakes()[:2], Recipe("translate", Making(Silent())))
    assert read(stages=stages) == LOG


def test_the_neighbours_are_shown_where_that_is_asked_for():
    stages = (*fakes()[:2], Recipe("translate", Making(Asked())))
    log = [live(0, (1, 4), "uno {language}"), live(1, (6, 8), "dos"), live(2, (8, 13), "<eos>")]
    first, middle, last = (one.transcript.whole for one in read(log, stages=stages, context=True))
    assert first.startswith("Before it was said: ...\nAfter it is said: dos\nTranscribe")
    assert middle.startswith("Before it was said: uno language\nAfter it is said: ...\n")
    assert last.startswith("Before it was said: dos\nAfter it is said: ...\n")
    assert first.count("{language}") == middle.count("{language}") == 1
    assert {one.transcript.whole for one in read(log, stages=stages)} == {"short"}


def test_a_stage_that_fails_is_an_error():
    sound = tone(14)
    sound[7 * CHUNK_SAMPLES] = POISON
    with pytest.raises(PipelineError, match="the second reading failed in stage 'encode'"):
        read(sound=[sound])


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("El tren sale.", "el tren, sale", (3, 0)),
        ("el tren sale", "el tren ya sale hoy", (3, 2)),
        ("el tren sale hoy", "tren sales", (4, 3)),
        ("", "uno", (0, 1)),
        ("uno", "", (1, 1)),
        ("今天好", "今天很好", (3, 1)),
    ],
)
def test_words_that_changed_are_counted(before, after, expected):
    assert difference(before, after) == Difference(*expected)


def test_a_session_without_captions_is_read_in_no_time():
    assert read([]) == []
