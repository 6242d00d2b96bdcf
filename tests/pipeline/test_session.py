import json
import threading
import time
from typing import Literal

import numpy as np
import pytest

from dragoman.errors import PipelineError
from dragoman.pipeline import session as session_module
from dragoman.pipeline.events import Ledger, to_json
from dragoman.pipeline.recipes import recipes
from dragoman.pipeline.session import MAX_IN_FLIGHT, Session, run
from dragoman.spec import ModelSpec
from dragoman.stages.messages import CHUNK_SAMPLES, Caption, SessionOptions, Text
from tests.pipeline.chains import in_process
from tests.pipeline.fake_stages import POISON, Making, fakes, tone
from tests.waiting import PATIENCE_S, eventually


@pytest.fixture
def chain():
    local = in_process(fakes())
    yield local
    local.stop()


def started(**captions):
    return in_process(fakes(**captions))


def captions_of(chain, audio, **kwargs):
    return list(run(chain, [audio], pace="fast", **kwargs))


def test_captions_come_in_order_and_carry_the_session(chain):
    options = SessionOptions(language="fr", target_language="it")
    captions = captions_of(chain, tone(7.5), options=options, session_name="one")
    assert [caption.seq for caption in captions] == list(range(len(captions)))
    assert {(c.session, c.language, c.target_language) for c in captions} == {("one", "fr", "it")}
    assert [c.kind for c in captions] == ["partial"] * 4 + ["final"] + ["partial"] * 3 + ["final"]
    assert captions[4].transcript == Text("w0 w1 w2 w3 w4")
    assert captions[-1].end == 7.5 * CHUNK_SAMPLES
    assert chain.sessions() == []


@pytest.mark.parametrize("size", [1, 999, CHUNK_SAMPLES, 10 * CHUNK_SAMPLES])
def test_the_cut_of_the_source_does_not_matter(chain, size):
    audio = tone(1.25 if size == 1 else 6.25)
    pieces = [audio[at : at + size] for at in range(0, len(audio), size)]
    whole = captions_of(chain, audio)
    cut = list(run(chain, pieces, pace="fast"))
    assert [(c.kind, c.end, c.transcript) for c in cut] == [
        (c.kind, c.end, c.transcript) for c in whole
    ]


def test_a_source_without_samples_gives_no_captions(chain):
    assert list(run(chain, [], pace="fast")) == []
    assert captions_of(chain, tone(0)) == []


def test_real_time_feeds_a_chunk_every_160_ms_and_captions_do_not_wait_for_the_end(chain):
    begin, arrivals = time.monotonic(), []
    for _ in run(chain, [tone(6)]):
        arrivals.append(time.monotonic() - begin)
    assert 2 <= len(arrivals) <= 7  # six chunks and the end; a busy machine skips updates
    assert arrivals[-1] >= 5 * 0.16 and arrivals[0] < arrivals[-1] - 0.16


def test_live_sound_never_waits_for_the_clock(chain):
    """A sound card that runs fast, and more so than any: 16 s of sound are there at once."""
    begin = time.monotonic()
    captions = list(run(chain, [tone(1)] * 100, pace="live"))
    assert time.monotonic() - begin < 8
    assert [c.transcript.whole for c in captions if c.kind == "final"] == ["w0 w1 w2 w3 w4"] * 20


def test_latencies_tell_what_a_slow_stage_costs():
    chain = started(delay_s=0.05)
    captions = list(run(chain, [tone(5)]))
    chain.stop()
    assert all(caption.latency["partial_ms"] >= 50 for caption in captions)
    assert ["response_ms" in c.latency for c in captions] == [c.kind == "final" for c in captions]
    assert captions[-1].latency["response_ms"] == captions[-1].latency["partial_ms"]


@pytest.mark.parametrize("pace", ["real-time", "live"])
def test_a_lagging_session_skips_updates_but_no_audio(pace):
    chain = started(delay_s=0.5)
    session = Session(chain, [tone(15)], pace=pace)
    captions = list(session)
    chain.stop()
    assert 0 < session.skipped_updates < 15
    assert 15 - session.skipped_updates <= len(captions) < 15
    assert [c.transcript.whole for c in captions if c.kind == "final"] == ["w0 w1 w2 w3 w4"] * 3


def test_at_the_fast_pace_every_update_runs():
    chain = started(delay_s=0.02)
    session = Session(chain, [tone(15)], pace="fast")
    captions = list(session)
    assert len(captions) == 15
    assert all(caption.latency == {} for caption in captions)  # nobody waited for the sound
    assert session.skipped_updates == 0
    chain.stop()


def test_the_source_is_read_no_further_than_the_chain_can_hold():
    gate, read = threading.Event(), []

    class Gated:
        def init_state(self, options):
            return None

        def step(self, item, state):
            gate.wait(PATIENCE_S)
            return [], state

        def flush(self, state):
            return []

    def source():
        for index in range(200):
            read.append(index)
            yield tone(1)

    gate.set()  # for the warm-up
    segment, encode, _ = fakes()
    chain = in_process((segment, encode, type(encode)("translate", Making(Gated()))))
    gate.clear()
    consumer = threading.Thread(target=lambda: list(run(chain, source(), pace="fast")))
    consumer.start()
    eventually(lambda: len(read) >= MAX_IN_FLIGHT)
    time.sleep(0.3)
    held = len(read)
    gate.set()
    consumer.join(PATIENCE_S)
    chain.stop()
    assert MAX_IN_FLIGHT <= held <= MAX_IN_FLIGHT + 1
    assert len(read) == 200


def test_stop_ends_the_input_and_the_last_words_still_come(chain):
    session = Session(chain, [tone(100)])
    captions = []
    for caption in session:
        captions.append(caption)
        if len(captions) == 2:
            session.stop()
    assert captions[-1].kind == "final"
    assert 2 * CHUNK_SAMPLES <= captions[-1].end <= 3 * CHUNK_SAMPLES
    assert chain.sessions() == []


def test_leaving_early_forgets_the_session(chain):
    for _ in run(chain, [tone(100)], session_name="left"):
        break
    eventually(lambda: chain.sessions() == [])


def test_a_session_may_be_left_after_its_pipeline_was_stopped(chain):
    captions = iter(run(chain, [tone(100)]))
    next(captions)
    chain.stop()
    captions.close()
    chain.drop("unknown")
    with pytest.raises(PipelineError, match="the pipeline was stopped"):
        captions_of(chain, tone(1))


def test_what_the_source_raises_comes_after_the_captions_of_what_was_read(chain):
    def source():
        yield tone(6)
        raise OSError("the cable was pulled")

    captions = []
    with pytest.raises(OSError, match="the cable was pulled"):
        for caption in run(chain, source(), pace="fast"):
            captions.append(caption)
    assert [c.kind for c in captions].count("final") == 2
    assert captions[-1].end == 6 * CHUNK_SAMPLES


def test_samples_of_a_wrong_kind_are_refused(chain):
    with pytest.raises(ValueError, match="float32"):
        list(run(chain, [np.zeros(5000, np.int16)], pace="fast"))
    assert chain.sessions() == []


def test_a_failing_session_says_where_and_why_and_its_neighbour_goes_on(chain):
    good = iter(run(chain, [tone(40)], session_name="good"))
    first = next(good)
    bad = np.concatenate([tone(3), tone(1, POISON), tone(30)])
    with pytest.raises(PipelineError) as raised:
        captions_of(chain, bad, session_name="bad")
    error = raised.value
    assert (error.stage, error.kind) == ("encode", "ValueError")
    assert "'bad'" in str(error) and "poison at piece 3" in str(error)
    assert "CountingTokens" in error.trace or "fake_stages" in error.trace
    eventually(lambda: chain.sessions() == ["good"])  # its last batches may still be on their way
    assert next(good).seq == first.seq + 1
    good.close()


def test_two_sessions_of_one_name_are_refused_and_the_first_lives(chain):
    first = iter(run(chain, [tone(20)], session_name="twin"))
    next(first)
    with pytest.raises(PipelineError, match="already open"):
        captions_of(chain, tone(1), session_name="twin")
    assert next(first).seq == 1
    first.close()


def test_a_stage_that_retracts_committed_text_is_an_error():
    chain = started(retracts=True)
    with pytest.raises(PipelineError, match="retracts the committed"):
        captions_of(chain, tone(5))
    chain.stop()


def test_a_stage_whose_final_has_a_tail_is_an_error():
    chain = started(tail_in_final=True)
    with pytest.raises(PipelineError, match="has a tail"):
        captions_of(chain, tone(5))
    chain.stop()


def caption(
    kind: Literal["partial", "final"] = "partial", segment: int = 0, committed: str = ""
) -> Caption:
    return Caption(kind, segment, 0, 1, "es", "en", Text(committed), Text())


@pytest.mark.parametrize(
    "second",
    [
        caption(segment=1, committed="ab"),
        caption("final", 1, "a"),
        caption("final", 0, "abc"),
    ],
)
def test_the_ledger_refuses(second):
    ledger = Ledger()
    ledger.check(caption("final", 0, "x"))
    ledger.check(caption(segment=1, committed="abc"))
    with pytest.raises(PipelineError, match="breaks the stream's promises"):
        ledger.check(second)


def test_the_ledger_accepts_growth_and_a_new_segment():
    ledger = Ledger()
    for each in [caption(), caption(committed="a"), caption("final", 0, "ab"), caption(segment=2)]:
        ledger.check(each)


def test_a_stage_that_cannot_be_made_stops_the_start():
    segment, encode, translate = fakes()
    broken = type(encode)("encode", Making(None, ValueError("no such folder")))
    with pytest.raises(PipelineError, match="no such folder") as raised:
        in_process((segment, broken, translate))
    assert (raised.value.stage, raised.value.kind) == ("encode", "ValueError")


def test_an_event_is_one_line_of_json_with_letters_as_they_are():
    line = to_json(caption(committed="mañana\n"))
    assert "mañana" in line and "\n" not in line
    told = {"committed": "mañana\n", "tail": "", "confidence": []}
    assert json.loads(line)["transcript"] == told


def test_memory_of_arrivals_is_bounded(chain, monkeypatch):
    monkeypatch.setattr(session_module, "REMEMBERED_CHUNKS", 40)
    session = Session(chain, (tone(1) for _ in range(100)), pace="fast")
    finals = [c for c in session if c.kind == "final"]
    assert len(finals) == 20
    assert len(session._arrivals) <= 41


def test_the_model_path_reaches_processes_that_run_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    encode = recipes(ModelSpec("mine"))[1]
    assert encode.make.args[0].model == str(tmp_path / "mine")
    assert recipes(ModelSpec("no-such-model"))[1].make.args[0].model == "no-such-model"
