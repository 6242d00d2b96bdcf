"""The sessions and visitors of `dragoman demo`'s page, without a browser."""

import time

import numpy as np
import pytest

from dragoman.demos import browser_runs, browser_view, browser_visitors
from dragoman.demos.browser_runs import Feed, Live
from dragoman.demos.browser_visitors import Visitors
from dragoman.stages.messages import CHUNK_SAMPLES, Caption, SessionOptions, Text
from tests.demos.browsers import eventually, fake_chain
from tests.pipeline.fake_stages import POISON

OPTIONS = SessionOptions()
RATE_HZ = 48_000


@pytest.fixture
def local():
    yield from fake_chain()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(browser_runs, "SILENT_S", 0.3)
    monkeypatch.setattr(browser_runs, "POLL_S", 0.02)


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
    live = Live(local, OPTIONS)
    sound = np.arange(4_000, dtype=np.int16)
    live.hear(16_000, sound[:2_000], "a", 0)
    live.hear(16_000, sound[:2_000], "a", 0)  # its answer was lost
    live.hear(16_000, sound[1_000:3_000], "a", 1_000)
    assert live.heard_s == pytest.approx(3_000 / 16_000)
    live.hear(16_000, sound[:2_000], "b", 0)  # another recording begins at 0 again
    assert live.heard_s == pytest.approx(5_000 / 16_000)
    live.clear()


def test_a_recording_that_just_stops_is_finished_and_the_next_one_goes_on_behind(local, impatient):
    live = Live(local, OPTIONS)
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
    live = Live(local, OPTIONS)
    speak(live, 4)
    growing = eventually(lambda: [c for c in live.captions() if c.transcript.committed])[0]
    assert growing.kind == "partial" and growing.transcript.tail
    assert 'class="dg-tail"' in browser_view.live(live.captions())
    live.clear()


def test_sound_that_comes_faster_than_the_clock_is_not_held_back(local):
    live = Live(local, OPTIONS)
    speak(live, 100)
    live.stop()
    eventually(lambda: not live.listening, 8)  # 16 s of sound
    assert finals(live) == ["w0 w1 w2 w3 w4"] * 20


def test_clearing_forgets_what_was_said_and_what_is_being_said(local):
    live = Live(local, OPTIONS)
    speak(live, 4)
    eventually(live.captions)
    live.clear()
    assert live.captions() == [] and not live.listening and live.heard_s == 0
    eventually(lambda: local.sessions() == [])
    speak(live, 4)
    assert eventually(live.captions)[0].start == 0
    live.clear()


def test_a_session_that_fails_says_so_once_and_leaves_others_alone(local, impatient, monkeypatch):
    monkeypatch.setattr(browser_runs, "RETRY_S", 0.5)
    bad, good = Live(local, OPTIONS), Live(local, OPTIONS)
    speak(good, 3)
    speak(bad, 2, value=round(POISON * 32_768))
    assert "poison" in eventually(lambda: bad.problem)
    speak(bad, 2)  # too soon: it would fail again and again
    assert not bad.listening
    speak(good, 2)
    good.stop()
    eventually(lambda: not good.listening)
    assert finals(good)[0] == "w0 w1 w2 w3 w4" and not good.problem
    time.sleep(0.6)
    speak(bad, 2)
    assert eventually(bad.captions) and not bad.problem
    bad.clear()


def test_sound_that_nobody_takes_is_lost_rather_than_memory(monkeypatch):
    monkeypatch.setattr(browser_runs, "WAITING_S", 1.0)
    feed = Feed(RATE_HZ)
    for _ in range(40):
        feed.push(np.zeros(12_000, np.float32))
    assert feed.samples <= 1.3 * 16_000
    assert feed.lost_s == pytest.approx(10 - feed.samples / 16_000, abs=0.1)


def test_a_closed_tab_is_given_up_but_not_one_that_comes_back(local, tmp_path, monkeypatch):
    monkeypatch.setattr(browser_visitors, "GRACE_S", 0.2)
    visitors = Visitors(local, OPTIONS, tmp_path)
    speak(visitors.get("gone").live, 3)
    speak(visitors.get("back").live, 3)
    assert visitors.get("gone").folder != visitors.get("back").folder
    folder = visitors.get("gone").folder
    visitors.left("gone")
    visitors.left("back")
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        kept = visitors.get("back")
        time.sleep(0.02)
    assert len(visitors) == 1 and not folder.exists()
    assert kept.live.captions() and kept.folder.exists()
    eventually(lambda: len(local.sessions()) == 1)
    visitors.close()
    eventually(lambda: local.sessions() == [])
    assert list(tmp_path.iterdir()) == []


def test_captions_are_escaped_and_tails_are_marked():
    text = Text("<script>alert(1)</script>", " & tail")
    html = browser_view.live([Caption("partial", 0, 0, 16_000, "es", "en", text, Text())])
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert '<span class="dg-tail"> &amp; tail</span>' in html
