"""The page of `dragoman demo`: its sessions without a browser, and all of it in a real one.

The browser is Chromium without a screen; its microphone hears a WAV file made of the sample talk.
With the bundled model the words are checked, with a random one only that there are some.
`DRAGOMAN_SCREENSHOTS=1` keeps pictures of both tabs in `docs/`.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import wave
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from demos import browser, browser_runs, browser_view, browser_visitors, cli
from demos.browser import serve
from demos.browser_runs import Feed, Live
from demos.browser_visitors import Visitors
from demos.score import word_error_rate
from pipeline.graph import Graph
from pipeline.local import Local
from stages.messages import CHUNK_SAMPLES, Caption, SessionOptions, Text
from tests.pipeline.fake_stages import POISON, fakes

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "samples" / "talk.mp4"
NANO = ROOT / "models" / "nano"
TRAINED = (NANO / "model.safetensors").is_file()
SCREENSHOTS = bool(os.environ.get("DRAGOMAN_SCREENSHOTS"))
LEAD_S, SPEECH_S, REST_S = 3.0, 12.1, 6.0  # of the microphone: three sentences between silences
SPOKEN = (ROOT / "samples" / "talk.es.txt").read_text(encoding="utf-8").splitlines()[:3]
SLOW_MS = 150_000  # everything takes its time on a busy machine
WORST_WER = 0.20

OPTIONS = SessionOptions()
RATE_HZ = 48_000


def eventually(what, within_s: float = 20.0):
    """The first true value of ``what()``."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {within_s} s")


# Without a browser.


@pytest.fixture
def local():
    chain = Local.start(stages=fakes())
    yield chain
    chain.stop()


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


# The command.


def test_a_port_in_use_is_said_before_anything_is_loaded(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert cli.main(["demo", "--no-browser", "--port", str(port)]) == cli.FAILED
    said = capsys.readouterr().err
    assert f"127.0.0.1:{port}" in said and "--port" in said


@pytest.mark.parametrize(
    "args",
    [
        ["--language", "xx"],
        ["--target-language", "es"],
        ["--ssl-certfile", "cert.pem"],
        ["--ssl-certfile", "no.pem", "--ssl-keyfile", "no.pem"],
        ["--no-ray", "--address", "auto"],
    ],
)
def test_options_that_make_no_sense_are_refused(args, capsys):
    assert cli.main(["demo", "--no-browser", "--port", "0", *args]) == cli.USAGE
    assert capsys.readouterr().err


def test_the_options_of_the_command_reach_the_sessions(local, monkeypatch):
    asked = {}

    @contextmanager
    def serve(chain, options, *_):
        asked["options"] = options
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(browser, "start", lambda *_, **__: local)
    monkeypatch.setattr(browser, "serve", serve)
    monkeypatch.setattr(browser, "_end_politely", lambda: None)
    options = ["--size", "half", "--draft-size", "full", "--pad-audio"]
    assert cli.main(["demo", "--port", "0", *options]) == cli.OK
    expected = SessionOptions(size="half", draft_size="full", pad_audio=True)
    assert asked["options"] == expected


@pytest.mark.timeout(240)
def test_the_command_serves_until_it_is_interrupted_and_leaves_nothing(tiny_folder, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "demos.cli", "demo", "--no-ray", "--no-browser", "--port", "0"]
        + ["--model", str(tiny_folder)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell runs in the background ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        url = re.search(r"http://\S+", process.stdout.readline())
        assert url is not None
        with urllib.request.urlopen(url[0], timeout=60) as page:
            text = page.read().decode()
        assert "Dragoman" in text and "navigator.mediaDevices" in text
        assert list(tmp_path.glob("dragoman-*"))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert list(tmp_path.glob("dragoman-*")) == []


# In a browser.


@pytest.fixture(scope="module")
def chromium() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None and os.environ.get("CI") == "true":
        pytest.fail("chromium is missing: .ci/system should have installed it")
    if path is None:
        pytest.skip("chromium is missing: apt-get install chromium")
    return path


@pytest.fixture(scope="module")
def playwright(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def chain(chromium, tiny_folder):
    graph = Graph.start("nano" if TRAINED else str(tiny_folder), threads=1)
    yield graph
    graph.stop()


@pytest.fixture(scope="module")
def served(chain):
    with serve(chain, OPTIONS) as page:
        yield page


@pytest.fixture(scope="module")
def spoken(tmp_path_factory) -> Path:
    """What the fake microphone hears: three sentences of the talk."""
    with wave.open(str(ROOT / "samples" / "talk.wav")) as file:
        speech = file.readframes(round(SPEECH_S * 16_000))
    path = tmp_path_factory.mktemp("microphone") / "talk.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(2 * round(LEAD_S * 16_000)))
        file.writeframes(speech)
        file.writeframes(bytes(2 * round(REST_S * 16_000)))
    return path


@contextmanager
def opened(playwright, chromium, *args, allow=True, scheme="light"):
    """A function that opens a page in a visitor's browser of its own."""
    browser = playwright.chromium.launch(
        executable_path=chromium,
        args=["--no-sandbox", "--disable-background-networking", *args],
    )

    def open_page(url: str):
        context = browser.new_context(
            viewport={"width": 1280, "height": 800},
            color_scheme=scheme,
            permissions=["microphone"] if allow else [],
        )
        page = context.new_page()
        page.set_default_timeout(SLOW_MS)
        page.goto(url)
        page.locator("#dg-record").wait_for()
        return page

    try:
        yield open_page
    finally:
        browser.close()


def fake_microphone(sound: Path | str) -> list[str]:
    """Hears ``sound`` again and again, or once where it ends with `%noloop`."""
    return [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={sound}",
    ]


def press(page, label: str) -> None:
    page.locator("#dg-record", has_text=label).click()


def status(page) -> str:
    return page.locator("#dg-status .dg-status").inner_text()


def wait_for_clock(page, seconds: float) -> None:
    """Until so much has been heard."""

    def heard() -> bool:
        clock = re.search(r"(\d+):(\d\d)", status(page))
        return clock is not None and int(clock[1]) * 60 + int(clock[2]) >= seconds

    end = time.monotonic() + SLOW_MS / 1_000
    while not heard():
        assert time.monotonic() < end, status(page)
        page.wait_for_timeout(200)


def wait_for_status(page, word: str) -> None:
    page.locator("#dg-status .dg-status", has_text=word).wait_for()


def shoot(page, name: str) -> None:
    if SCREENSHOTS:
        page.screenshot(path=ROOT / "docs" / name)


def texts(page, selector: str) -> list[str]:
    return [text.strip() for text in page.locator(selector).all_inner_texts()]


@pytest.mark.timeout(600)
def test_live_tab_captions_what_the_microphone_hears(playwright, chromium, served, spoken):
    with opened(playwright, chromium, *fake_microphone(f"{spoken}%noloop")) as open_page:
        page = open_page(served.url)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.reload()
        press(page, "Record")
        page.locator(".dg-segment").first.wait_for()  # text comes while it is spoken
        assert status(page).startswith("Listening")
        if TRAINED:
            page.locator(".dg-segment").nth(len(SPOKEN) - 1).wait_for()
            shoot(page, "live.png")  # the last sentence is still growing
        wait_for_clock(page, LEAD_S + SPEECH_S + 1.5)
        press(page, "Stop")
        wait_for_status(page, "Stopped")
        assert page.locator(".dg-partial").count() == 0
        page.set_viewport_size({"width": 1280, "height": 480})  # the newest one stays in sight
        page.wait_for_function(
            "() => [...document.querySelectorAll('.dg-segment')].at(-1)"
            ".getBoundingClientRect().bottom"
            " <= document.getElementById('dg-captions').getBoundingClientRect().bottom"
        )
        shown = texts(page, ".dg-final .dg-transcript")
        translated = texts(page, ".dg-final .dg-translation")
        assert shown and len(shown) == len(translated)
        assert page.locator("#dg-mic").is_hidden()
        links = {link.inner_text(): link for link in page.locator("#dg-live-files a").all()}
        assert set(links) == {
            f"live.{rest}"
            for rest in ["es.srt", "en.srt", "es-en.srt", "es.vtt", "en.vtt", "es-en.vtt", "json"]
        }
        with page.expect_download() as saved:
            links["live.json"].click()
        form = json.loads(saved.value.path().read_text(encoding="utf-8"))
        said = [segment["transcript"] for segment in form["segments"]]
        assert [" ".join(text.split()) for text in said] == [" ".join(t.split()) for t in shown]
        with page.expect_download() as saved:
            links["live.es-en.srt"].click()
        assert "00:00:" in saved.value.path().read_text(encoding="utf-8")
        page.locator("#dg-clear").click()
        page.locator(".dg-empty").wait_for()
    # Nobody else was called.
    assert [url for url in asked if not url.startswith((served.url, "data:", "blob:"))] == []
    if TRAINED:
        assert word_error_rate(" ".join(SPOKEN), " ".join(shown)) <= WORST_WER, shown


@pytest.mark.timeout(600)
def test_two_visitors_do_not_disturb_each_other_and_closed_tabs_end(
    playwright, chromium, chain, served, spoken
):
    eventually(lambda: len(served.visitors) == 0, 60)
    with opened(playwright, chromium, *fake_microphone(spoken)) as open_page:
        first, second = open_page(served.url), open_page(served.url)
        press(first, "Record")
        wait_for_clock(first, LEAD_S + 2)
        assert "Ready" in status(second) and second.locator(".dg-segment").count() == 0
        press(second, "Record")
        second.locator(".dg-segment").first.wait_for()
        assert len(served.visitors) == 2
        assert len(chain.sessions()) == 2
        second.locator("#dg-clear").click()
        second.close()
        eventually(lambda: len(served.visitors) == 1 and len(chain.sessions()) == 1, 60)
        before = first.locator(".dg-segment").count()
        assert before
        first.locator(".dg-segment").nth(before).wait_for()  # it still listens
        first.close()
        eventually(lambda: len(served.visitors) == 0 and chain.sessions() == [], 60)


@pytest.mark.timeout(600)
def test_video_tab_plays_the_bundled_clip_with_subtitles(playwright, chromium, served):
    with opened(playwright, chromium) as open_page:
        page = open_page(served.url)
        page.get_by_role("tab", name="Video").click()
        page.locator("#dg-clip").click()
        page.locator(".dg-progress").wait_for()
        page.locator(".dg-player").wait_for()
        with page.expect_download() as saved:
            page.locator("#dg-video-files a", has_text="talk.json").click()
        form = json.loads(saved.value.path().read_text(encoding="utf-8"))
        segments = form["segments"]
        rows = page.locator("#dg-table tbody tr")
        assert rows.count() == len(segments) > 3
        for number, segment in enumerate(segments):
            _, transcript, translation = rows.nth(number).locator("td").all_inner_texts()
            assert transcript.split() == segment["transcript"].split()
            assert translation.split() == segment["translation"].split()
        named = {frame["index"] for segment in segments for frame in segment["frames"]}
        pictures = page.locator("#dg-gallery img")
        assert pictures.count() == len(named) > 3
        assert all(pictures.evaluate_all("all => all.map(p => p.complete && p.naturalWidth > 0)"))
        page.wait_for_function(
            "() => { const v = document.querySelector('.dg-player');"
            " return v.readyState >= 2 && v.textTracks[0].cues?.length > 3 }"
        )
        rows.nth(2).click()  # goes to where the third segment begins
        page.wait_for_function(
            "() => document.querySelector('.dg-player').textTracks[0].activeCues.length > 0"
        )
        page.evaluate("() => { const v = document.querySelector('.dg-player');"
                      " v.muted = true; return v.play() }")  # fmt: skip
        start_s = segments[2]["start"]
        page.wait_for_function(
            f"() => document.querySelector('.dg-player').currentTime > {start_s + 1.2}"
        )
        if SCREENSHOTS:
            page.evaluate("() => document.querySelector('.dg-player').pause()")
            page.set_viewport_size({"width": 1280, "height": 1900})
            page.mouse.move(5, 5)
            page.evaluate("() => window.scrollTo(0, 0)")
            page.wait_for_timeout(4_000)  # the player's bar fades
            shoot(page, "video.png")
    if TRAINED:
        said = " ".join(segment["transcript"] for segment in segments)
        reference = (ROOT / "samples" / "talk.es.txt").read_text(encoding="utf-8")
        assert word_error_rate(reference, said) <= WORST_WER, said


@pytest.mark.timeout(600)
def test_uploads_work_or_say_why_not(playwright, chromium, served, spoken, tmp_path):
    wrong = tmp_path / "notes.mp4"
    wrong.write_text("not a film\n")
    with opened(playwright, chromium) as open_page:
        page = open_page(served.url)
        page.get_by_role("tab", name="Video").click()
        page.locator("#dg-upload input[type=file]").set_input_files(wrong)
        page.locator("#dg-video-status .dg-bad").wait_for()
        said = page.locator("#dg-video-status .dg-bad").inner_text()
        assert said.startswith("notes.mp4 is not a media file")
        page.reload()
        page.get_by_role("tab", name="Video").click()
        page.locator("#dg-upload input[type=file]").set_input_files(spoken)
        page.locator(".dg-player").wait_for()
        assert page.locator("#dg-table tbody tr").count() > 0
        assert page.locator("#dg-gallery img").count() == 0


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--use-fake-device-for-media-stream"], ["refused", "Allow it", "https or localhost"]),
        ([], ["No microphone was found"]),
    ],
    ids=["denied", "missing"],
)
def test_a_microphone_that_cannot_be_had_is_explained(playwright, chromium, served, args, words):
    with opened(playwright, chromium, *args, allow=not args) as open_page:
        page = open_page(served.url)
        press(page, "Record")
        page.locator("#dg-mic").wait_for(state="visible")
        said = page.locator("#dg-mic").inner_text()
        assert all(word in said for word in words), said
        # One can try again.
        assert page.locator("#dg-record", has_text="Record").is_enabled()


@pytest.mark.timeout(240)
def test_a_page_that_is_not_secure_says_what_to_do(playwright, chromium, served):
    address = served.url.replace("127.0.0.1", "dragoman.test")
    rule = "--host-resolver-rules=MAP dragoman.test 127.0.0.1"
    with opened(playwright, chromium, rule) as open_page:
        page = open_page(address)
        page.locator("#dg-mic").wait_for(state="visible")
        said = page.locator("#dg-mic").inner_text()
        assert "https" in said and "http://localhost:" in said and "--ssl-certfile" in said
