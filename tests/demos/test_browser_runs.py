"""The sessions and visitors of `dragoman demo`'s page, without a browser."""

import gc
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from dragoman.demos import (
    browser_live,
    browser_recorded,
    browser_state,
    browser_view,
    browser_visitor,
    browser_visitors,
)
from dragoman.demos.browser_live import BURST_S, Live, Superseded, TooFast
from dragoman.demos.browser_recording import Hole
from dragoman.demos.browser_visitor import Full
from dragoman.demos.browser_visitors import Visitors
from dragoman.errors import PipelineError
from dragoman.pipeline.chain import Chain
from dragoman.server import feed as server_feed
from dragoman.server.feed import Feed
from dragoman.stages.messages import CHUNK_SAMPLES, Caption, SessionOptions, Text
from tests.demos.browsers import fake_chain, live_on
from tests.pipeline.fake_stages import POISON, fakes
from tests.pipeline.mortal import Mortal
from tests.waiting import eventually

OPTIONS = SessionOptions()
RATE_HZ = 48_000


@pytest.fixture
def local():
    yield from fake_chain()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(server_feed, "SILENT_S", 0.3)
    monkeypatch.setattr(server_feed, "POLL_S", 0.02)


def speak(live: Live, chunks: float, value: int = 3_000) -> None:
    """int16 at 48 kHz, in the pieces that a browser sends."""
    samples = np.full(round(chunks * CHUNK_SAMPLES * 3), value, np.int16)
    for at in range(0, len(samples), 12_000):
        live.hear(RATE_HZ, samples[at : at + 12_000])


def finals(live: Live) -> list[str]:
    return [c.transcript.whole for c in live.captions() if c.kind == "final"]


def test_pieces_are_resampled_as_one_stream():
    time_s = np.arange(RATE_HZ) / RATE_HZ
    wave_48 = (0.5 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)
    feed = Feed(RATE_HZ)
    for at in range(0, len(wave_48), 1_237):
        assert feed.push(wave_48[at : at + 1_237])
    feed.end()
    heard = np.concatenate(list(feed))
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(heard)) / 16_000)
    assert abs(len(heard) - 16_000) <= 1
    assert np.abs(heard - expected)[100:-100].max() < 1e-3  # a click would be far more
    assert not feed.push(wave_48)  # it had ended


def test_what_is_sent_again_is_heard_once(local):
    live = live_on(local)
    sound = np.arange(4_000, dtype=np.int16)
    live.hear(16_000, sound[:2_000], 1, 0)
    live.hear(16_000, sound[:2_000], 1, 0)  # its answer was lost
    live.hear(16_000, sound[1_000:3_000], 1, 1_000)
    assert live.heard_s == pytest.approx(3_000 / 16_000)
    live.hear(16_000, sound[:2_000], 2, 0)  # another recording begins at 0 again
    assert live.heard_s == pytest.approx(5_000 / 16_000)
    live.clear()


def test_a_recording_that_just_stops_is_finished_and_the_next_one_goes_on_behind(local, impatient):
    live = live_on(local)
    speak(live, 7)
    assert live.state == "Listening"
    eventually(lambda: live.state == "Stopped")
    assert finals(live) == ["w0 w1 w2 w3 w4", "w0 w1 w2"]
    speak(live, 2)
    live.stop()
    eventually(lambda: not live.listening)
    captions = live.captions()
    assert [c.segment for c in captions] == [0, 1, 2]
    assert 7 * CHUNK_SAMPLES <= captions[2].start < 7.1 * CHUNK_SAMPLES
    assert live.heard_s == pytest.approx(9 * 0.16, abs=0.01)
    assert local.sessions() == []


def test_text_grows_while_it_is_spoken(local):
    live = live_on(local)
    speak(live, 4)
    growing = eventually(lambda: [c for c in live.captions() if c.transcript.committed])[0]
    assert growing.kind == "partial" and growing.transcript.tail
    assert 'class="dg-tail"' in browser_view.row(growing)
    live.clear()


def test_sound_that_comes_faster_than_the_clock_is_not_held_back(local):
    live = live_on(local)
    begin = time.monotonic()
    speak(live, 100)
    live.stop()
    eventually(lambda: not live.listening)
    assert time.monotonic() - begin < 16  # seconds of sound
    assert finals(live) == ["w0 w1 w2 w3 w4"] * 20


def test_clearing_forgets_what_was_said_and_what_is_being_said(local):
    live = live_on(local)
    speak(live, 4)
    eventually(live.captions)
    live.clear()
    assert live.captions() == [] and not live.listening and live.heard_s == 0
    eventually(lambda: local.sessions() == [])
    speak(live, 4)
    assert eventually(live.captions)[0].start == 0
    live.clear()


def test_sound_is_kept_until_it_is_cleared_and_goes_with_the_visitor(local, tmp_path, monkeypatch):
    visitors = Visitors(local, OPTIONS, tmp_path)
    visitor = visitors.new()
    live = visitor.live
    speak(live, 7)
    live.stop()
    eventually(lambda: not live.listening)
    assert live.recorded.samples == pytest.approx(7 * CHUNK_SAMPLES, abs=2)
    assert "live.wav" in browser_state.live_files(visitor) and len(live.history.finished()) == 2
    (kept,) = visitor.folder.iterdir()
    monkeypatch.setattr(browser_recorded, "MOST_SAMPLES", 8 * CHUNK_SAMPLES)
    assert live.note == ""
    speak(live, 7)
    assert "not kept any longer" in eventually(lambda: live.note)
    live.clear()
    assert not kept.exists() and browser_state.live_files(visitor) == []
    assert browser_state.segments(visitor) == [] and live.viewers.after(0)[1] == []
    speak(live, 2)
    eventually(live.captions)
    visitors.close()
    assert list(tmp_path.iterdir()) == []


def test_a_session_that_fails_says_so_once_and_leaves_others_alone(local, monkeypatch):
    monkeypatch.setattr(browser_live, "RETRY_S", 60)
    bad, good = live_on(local), live_on(local)
    speak(good, 3)
    speak(bad, 2, value=round(POISON * 32_768))
    assert "poison" in eventually(lambda: bad.problem)
    speak(bad, 2)  # too soon: it would fail again and again
    assert not bad.listening
    speak(good, 2)
    good.stop()
    eventually(lambda: not good.listening)
    assert finals(good)[0] == "w0 w1 w2 w3 w4" and not good.problem
    monkeypatch.setattr(browser_live, "RETRY_S", 0)
    speak(bad, 2)
    assert eventually(bad.captions) and not bad.problem
    bad.clear()


def test_sound_that_nobody_takes_is_lost_rather_than_memory(monkeypatch):
    monkeypatch.setattr(server_feed, "WAITING_S", 1.0)
    feed = Feed(RATE_HZ)
    taken = [feed.push(np.zeros(12_000, np.float32)) for _ in range(40)]
    assert taken == [True] * 5 + [False] * 35 and feed.ended
    assert feed.samples <= 1.3 * 16_000


def test_what_was_not_heard_is_a_hole_and_times_behind_it_are_right(local, monkeypatch):
    monkeypatch.setattr(browser_live, "RETRY_S", 60)
    live = live_on(local)
    speak(live, 7.5)  # a segment, and two chunks of another
    eventually(lambda: len(live.captions()) == 2 and live.captions()[1].transcript.committed)
    speak(live, 2, value=round(POISON * 32_768))
    eventually(lambda: live.problem)
    speak(live, 25)  # 4 s that nobody hears
    monkeypatch.setattr(browser_live, "RETRY_S", 0)
    speak(live, 5)
    live.stop()
    eventually(lambda: not live.listening)
    rows, unsettled = live.rows()
    assert not unsettled
    first, kept, hole, second = rows
    assert isinstance(first, Caption) and isinstance(kept, Caption)
    assert isinstance(hole, Hole) and isinstance(second, Caption)
    assert kept.transcript.whole == "w0" and hole.start == kept.end == 7 * CHUNK_SAMPLES
    assert second.start == hole.end == pytest.approx(34.5 * CHUNK_SAMPLES, abs=50)
    assert hole.sentence == "4 s were not heard: the captions had failed."
    assert "dg-hole" in browser_view.row(hole)


def test_sound_that_was_lost_on_its_way_is_a_hole(local):
    live = live_on(local)
    live.hear(16_000, np.zeros(5 * CHUNK_SAMPLES, np.int16), 1, 0)
    live.hear(16_000, np.zeros(5 * CHUNK_SAMPLES, np.int16), 1, 5 * CHUNK_SAMPLES + 48_000)
    assert live.heard_s == pytest.approx(10 * 0.16 + 3)
    live.stop()
    eventually(lambda: not live.listening)
    assert [hole.end - hole.start for hole in live.holes] == [48_000]
    assert [c.start for c in live.captions()][-1] == 5 * CHUNK_SAMPLES + 48_000


def test_rows_are_told_once(local):
    live = live_on(local)
    speak(live, 12)
    eventually(lambda: len(live.rows()[0]) == 2)
    eventually(lambda: [caption.kind for caption in live.rows(2)[1]] == ["partial"])
    assert live.rows(2)[0] == []
    speak(live, 5)
    eventually(lambda: len(live.rows(2)[0]) == 1)
    era = live.era
    live.clear()
    assert live.era == era + 1 and live.rows() == ([], [])


def test_only_the_newest_recording_of_a_page_is_heard(local):
    live = live_on(local)
    live.hear(RATE_HZ, np.zeros(24_000, np.int16), 1, 0)
    live.hear(RATE_HZ, np.zeros(24_000, np.int16), 2, 0)
    with pytest.raises(Superseded):
        live.hear(RATE_HZ, np.zeros(24_000, np.int16), 1, 24_000)
    live.stop(1)  # the old one's word that it has stopped
    assert live.state == "Listening"
    live.clear()


def test_recordings_with_ever_new_rates_are_few_and_leave_no_threads(local):
    live = live_on(local)
    before = native_threads()
    for number in range(60):
        live.hear(8_000 + 100 * number, np.zeros(400, np.int16), number, 0)
        assert len(local.sessions()) <= browser_live.UNFINISHED
    live.stop()
    eventually(lambda: not live.listening)
    live.rows()
    gc.collect()
    eventually(lambda: native_threads() <= before + 4)
    live.clear()


def native_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_sound_that_is_far_ahead_of_the_clock_is_refused(local):
    live = live_on(local)
    second = np.zeros(16_000, np.int16)
    with pytest.raises(TooFast):
        for number in range(round(BURST_S) + 10):
            live.hear(16_000, second, 1, 16_000 * number)
    assert live.heard_s <= BURST_S + 1
    live.clear()


def test_a_session_waits_for_a_place(local):
    place = threading.Semaphore(1)
    first, second = live_on(local, place), live_on(local, place)
    speak(first, 3)
    eventually(first.captions)
    speak(second, 3)
    assert second.state == "Waiting for a free place"
    first.clear()
    eventually(second.captions)
    second.clear()


def test_captions_that_do_not_come_are_a_lag_and_then_a_problem(local, monkeypatch):
    live = live_on(local)
    speak(live, 2)
    eventually(live.captions)
    assert live.lag_s == 0 and not live.problem
    monkeypatch.setattr(local, "step", lambda *_, **__: Future())  # nothing answers any more
    monkeypatch.setattr(browser_live, "STALLED_S", 3.5)
    speak(live, 15)
    assert 2 < live.lag_s < 3 and not live.problem and live.state == "Listening"
    speak(live, 10)
    assert "far behind" in live.problem
    live.clear()


def test_a_worker_that_was_replaced_is_told_for_a_while_and_costs_nothing(monkeypatch):
    host = Mortal()
    chain = Chain.start(host, fakes())
    live = live_on(chain)
    speak(live, 3)
    eventually(live.captions)
    assert live.note == ""
    host.begin(lambda name, number: (name, number) == ("translate", 0))
    speak(live, 8)
    assert "Nothing is lost" in eventually(lambda: live.note)
    eventually(lambda: len(finals(live)) == 2)
    assert finals(live) == ["w0 w1 w2 w3 w4"] * 2 and not live.problem and not live.holes
    monkeypatch.setattr(browser_live, "NOTED_S", 0)
    assert live.note == ""
    live.clear()
    chain.stop()


def test_a_visitor_is_told_nothing_that_only_the_owner_can_do(local, monkeypatch):
    def refuse(*_):
        raise PipelineError("no place for 3 processes: look at `ray status`", kind="RayError")

    live = live_on(local)
    monkeypatch.setattr(local, "open", refuse)
    speak(live, 2)
    eventually(lambda: live.problem)
    assert "ray status" not in live.problem and "start it again" in live.problem
    live.clear()


def test_a_closed_page_is_given_up_but_not_one_that_comes_back(local, tmp_path, monkeypatch):
    monkeypatch.setattr(browser_visitor, "CLOSED_S", 0.3)
    monkeypatch.setattr(browser_visitors, "SWEEP_S", 0.05)
    visitors = Visitors(local, OPTIONS, tmp_path)
    gone, back = visitors.new(), visitors.new()
    for visitor in (gone, back):
        speak(visitor.live, 3)
        visitor.leave(visitor.enter())
    assert gone.folder != back.folder
    visitors.get(gone.key)  # what it had sent before is heard later
    back.enter()
    speak(back.live, 3)
    eventually(lambda: len(visitors) == 1)
    assert visitors.get(gone.key) is None
    eventually(lambda: not gone.folder.exists())
    assert back.live.captions() and back.folder.exists()
    eventually(lambda: len(local.sessions()) == 1)
    visitors.close()
    eventually(lambda: local.sessions() == [])
    assert list(tmp_path.iterdir()) == []


def test_goodbyes_come_in_any_order(local, tmp_path):
    """Of a page that was loaded again, and of a tab that was duplicated."""
    visitors = Visitors(local, OPTIONS, tmp_path)
    visitor = visitors.new()
    before, now = visitor.enter(), visitor.enter()
    speak(visitor.live, 3)
    visitor.leave(before)
    visitor.leave(before)
    assert not visitor.closed and visitor.live.state == "Listening"
    visitor.leave(now)
    assert visitor.closed and visitor.live.state != "Listening"
    again = visitor.enter()
    assert not visitor.closed and again not in (before, now)
    for _ in range(2 * browser_visitor.PAGES):  # a browser that crashes says no goodbye
        again = visitor.enter()
    visitor.leave(again)
    assert not visitor.closed
    visitors.close()


def test_a_page_that_nobody_uses_goes_sooner_than_a_transcript(local, tmp_path, monkeypatch):
    monkeypatch.setattr(browser_visitor, "IDLE_S", 0.2)
    monkeypatch.setattr(browser_visitors, "SWEEP_S", 0.05)
    visitors = Visitors(local, OPTIONS, tmp_path)
    speaker, idle = visitors.new(), visitors.new()
    speak(speaker.live, 3)
    eventually(lambda: len(visitors) == 1)
    assert visitors.get(idle.key) is None
    assert visitors.get(speaker.key) is speaker
    visitors.close()


def test_many_visits_take_the_place_of_each_other_and_of_no_speaker(local, tmp_path, monkeypatch):
    monkeypatch.setattr(browser_visitors, "VISITORS", 3)
    visitors = Visitors(local, OPTIONS, tmp_path)
    speaker = visitors.new()
    speak(speaker.live, 3)
    others = [visitors.new() for _ in range(10)]
    assert len(visitors) == 3 and visitors.get(speaker.key) is speaker
    for other in others:
        if visitors.get(other.key) is other:
            speak(other.live, 1)
    with pytest.raises(Full):
        visitors.new()
    assert len(list(tmp_path.iterdir())) == 3
    visitors.close()


def test_captions_are_escaped_and_tails_are_marked():
    text = Text("<script>alert(1)</script>", " & tail")
    html = browser_view.row(Caption("partial", 0, 0, 16_000, "es", "en", text, Text()))
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert '<span class="dg-tail"> &amp; tail</span>' in html
