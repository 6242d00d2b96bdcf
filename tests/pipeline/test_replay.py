"""Sessions whose actors die at every moment, without Ray; test_kills.py has real processes."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman.errors import PipelineError
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.recipes import Recipe
from dragoman.pipeline.replay import TRIES, Replay
from dragoman.pipeline.session import Session, run
from dragoman.stages.messages import CHUNK_SAMPLES, Caption, SoftTokens, Speech, Text
from dragoman.stages.segment import SegmentStage
from tests.pipeline.fake_stages import (
    CHUNKS_A_SEGMENT,
    CountingCaptions,
    Making,
    bare,
    bursts,
    fakes,
    illustrated,
    looking,
    picture,
    tone,
)
from tests.pipeline.mortal import Mortal
from tests.waiting import PATIENCE_S

STAGES = ("encode", "translate")
SOUND = tone(12.5)  # three segments; a run of each actor opens the session, one ends it
RUNS = 16


@pytest.fixture(scope="module")
def host() -> Mortal:
    return Mortal()


@pytest.fixture(scope="module")
def chain(host) -> Iterator[Chain]:
    made = Chain.start(host, fakes())
    yield made
    made.stop()


@pytest.fixture(scope="module")
def undisturbed(chain) -> list[Caption]:
    return captions(chain)


def captions(chain: Chain, sound: np.ndarray = SOUND, **kwargs) -> list[Caption]:
    return bare(run(chain, [sound], pace="fast", **kwargs))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("at", range(1, RUNS - 1))
def test_a_death_at_any_moment_changes_nothing(chain, host, undisturbed, stage, at):
    host.begin(lambda name, number: (name, number) == (stage, at))
    assert captions(chain) == undisturbed
    assert host.ended == [stage] and chain.sessions() == []


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(deaths=st.sets(st.tuples(st.sampled_from(STAGES), st.integers(1, 40)), max_size=8))
def test_deaths_at_many_moments_change_nothing_but_in_a_row(chain, host, undisturbed, deaths):
    host.begin(lambda name, number: (name, number) in deaths)
    try:
        assert captions(chain) == undisturbed
    except PipelineError as error:
        assert f"ended {TRIES} times in a row" in str(error) and len(host.ended) >= TRIES
    assert chain.sessions() == []


def test_speech_between_pauses_is_what_it_is_without_a_death():
    """The real segmenter, which keeps what it has learnt of the room."""
    host = Mortal()
    made = Chain.start(host, (Recipe("segment", Making(SegmentStage())), *fakes()[1:]))
    host.begin(lambda name, number: False)
    expected = captions(made, bursts())
    assert [caption.kind for caption in expected].count("final") == 2
    ended = 0
    for at in range(1, 20):
        host.begin(lambda name, number, at=at: (name, number) == ("translate", at))
        assert captions(made, bursts()) == expected
        ended += len(host.ended)
    assert ended > 5, "runs are fewer where they are busy"
    made.stop()


def test_pictures_are_looked_at_again():
    host = Mortal()
    made = Chain.start(host, illustrated(), look=looking())
    pictures = [picture(0.0, 10), picture(0.9, 20), picture(1.5, 30)]
    host.begin(lambda name, number: False)
    expected = captions(made, frames=pictures)
    assert len({caption.size for caption in expected}) == 3
    for stage in ("look", *STAGES):
        host.begin(lambda name, number, stage=stage: (name, number) == (stage, 7))
        assert captions(made, frames=pictures) == expected
        assert host.ended == [stage]
    made.stop()


class Listener:
    """A session whose next chunk is there once a caption came of the last one, or after
    ``patience_s`` where there is none to come.
    """

    def __init__(self, chain: Chain, chunks: int, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self.heard: list[Caption] = []
        self.warned: list[str] = []
        self._chain, self._chunks, self._go_on = chain, chunks, threading.Semaphore(0)

    def listen(self) -> list[str]:
        """What was said in segments, by the final captions."""
        session = Session(self._chain, self._source(), pace="live", warn=self.warned.append)
        for caption in session:
            self.heard.append(caption)
            self._go_on.release()
        return [c.transcript.whole for c in self.heard if c.kind == "final"]

    def _source(self) -> Iterator[np.ndarray]:
        for _ in range(self._chunks):
            yield tone(1)
            self._go_on.acquire(timeout=self._patience_s)


class Sizes(CountingCaptions):
    """Hears other words in each segment since its session was opened, as sizes of a model do."""

    def init_state(self, options):
        return super().init_state(options), -1

    def step(self, item: SoftTokens, state):
        inner, segments = state
        segments += item.opens
        made, inner = super().step(item, inner)
        return [self._other(caption, "abcd"[segments]) for caption in made], (inner, segments)

    def _other(self, caption: Caption, letter: str) -> Caption:
        said = caption.transcript
        text = Text(said.committed.replace("w", letter), said.tail.replace("w", letter))
        sure = (0.5 if letter == "a" else 0.9,) * len(text.words)
        return replace(caption, transcript=replace(text, confidences=sure))


def test_what_was_committed_stays_where_another_size_hears_other_words():
    host = Mortal()
    made = Chain.start(host, (*fakes()[:2], Recipe("translate", Making(Sizes()))))
    host.begin(lambda name, number: (name, number) == ("translate", 9))  # a2 is not committed yet
    listener = Listener(made, 15, patience_s=1.0)  # one update is not shown
    assert listener.listen() == ["a0 a1 a2 a3 a4", "b0 b1 a2 a3 a4", "b0 b1 b2 b3 b4"]
    finals = [caption for caption in listener.heard if caption.kind == "final"]
    assert finals[1].transcript.confidences == (0.9, 0.9, 0.5, 0.5, 0.5)
    assert host.ended == ["translate"]
    made.stop()


def test_a_live_session_gives_every_word_once_and_committed_text_stays(chain, host):
    host.begin(lambda name, number: number in (3, 9, 14))
    listener = Listener(chain, 20)
    assert listener.listen() == ["w0 w1 w2 w3 w4"] * 4 and len(host.ended) == 6
    assert [caption.seq for caption in listener.heard] == list(range(20))
    for before, after in pairwise(listener.heard):  # the ledger would refuse what shrinks
        assert (before.segment, before.end) < (after.segment, after.end)


def test_a_death_is_told_once_and_when(chain, host):
    host.begin(lambda name, number: (name, number) in {("translate", 6), ("translate", 12)})
    listener = Listener(chain, 15)
    listener.listen()
    assert [line.partition(" s:")[0] for line in listener.warned] == [
        "a worker process ended at 1.0",
        "a worker process ended at 1.6",
    ]


def test_latencies_tell_how_long_a_death_takes(chain, host):
    host.begin(lambda name, number: (name, number) == ("translate", 1))
    session = Session(chain, [tone(5)], pace="live", warn=lambda message: time.sleep(0.3))
    final = [*session][-1]
    assert host.ended and final.latency["response_ms"] >= 300 <= final.latency["partial_ms"]


def test_deaths_in_a_row_end_the_session_and_no_other(chain, host, undisturbed):
    host.begin(lambda name, number: name == "encode" and number >= 7)
    listener = Listener(chain, 20)
    with pytest.raises(PipelineError, match=f"ended {TRIES} times in a row.*start again"):
        listener.listen()
    assert [caption.kind for caption in listener.heard] == ["partial"] * 4 + ["final", "partial"]
    host.begin(lambda name, number: False)
    assert captions(chain) == undisturbed and chain.sessions() == []


def test_what_comes_through_between_two_deaths_ends_their_row(chain, host):
    """More deaths than may be in a row."""
    at = {(CHUNKS_A_SEGMENT + 2) * segment + 3 for segment in range(2 * TRIES)}
    host.begin(lambda name, number: name == "translate" and number in at)
    assert len(Listener(chain, 5 * 2 * TRIES).listen()) == len(host.ended) == 2 * TRIES


def test_what_the_source_raises_still_comes_after_the_captions(chain, host, undisturbed):
    def source():
        yield SOUND
        raise OSError("the cable was pulled")

    host.begin(lambda name, number: (name, number) == ("translate", 8))
    heard: list[Caption] = []
    with pytest.raises(OSError, match="the cable was pulled"):
        for caption in run(chain, source(), pace="fast"):
            heard.append(caption)
    assert bare(heard) == undisturbed


def piece(segment: int, opens: bool = False, closes: bool = False) -> Speech:
    return Speech(segment, 0, np.zeros(CHUNK_SAMPLES, np.float32), opens, closes)


def test_only_what_has_not_come_through_is_kept():
    replay = Replay()
    first = [piece(0, opens=True), piece(0, closes=True), piece(1, opens=True)]
    second, third = [piece(1)], [piece(1, closes=True), piece(2, opens=True)]
    for batch in (first, second, third):
        replay.sent(batch)
    replay.through()
    assert replay.again() == [*first[2:], *second, *third]
    replay.sent(again := [*first[2:], *second, *third])
    replay.through()
    assert replay.again() == again[-1:], "what is open is kept"


def test_an_open_session_is_dropped_where_it_cannot_be_opened_again(chain, host):
    """The other actor ends while the session is opened anew."""
    host.begin(lambda name, number: name == "translate" and number in (4, 5))
    assert captions(chain) and host.ended == ["translate"] * 2
    assert chain.sessions() == []
