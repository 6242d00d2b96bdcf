"""The page of `dragoman demo` in a real browser.

The browser is Chromium without a screen; its microphone hears a WAV file made of the sample talk.
With the bundled model the words are checked, with a random one only that there are some.
`DRAGOMAN_SCREENSHOTS=1` keeps pictures of it in `docs/`.
"""

import io
import json
import os
import re
import time
import wave
from pathlib import Path

import pytest
from PIL import Image

from dragoman.demos.browser import serve
from dragoman.demos.score import word_error_rate
from dragoman.pipeline.start import start
from dragoman.spec import ModelSpec
from dragoman.stages.messages import SessionOptions
from tests.demos.browsers import (
    chromium,
    fake_microphone,
    opened,
    playwright,
    press,
    status,
    texts,
    wait_for_status,
)
from tests.waiting import PATIENCE_S, eventually

ROOT = Path(__file__).resolve().parents[2]
NANO = ROOT / "models" / "nano"
TRAINED = (NANO / "model.safetensors").is_file()
SCREENSHOTS = bool(os.environ.get("DRAGOMAN_SCREENSHOTS"))
LEAD_S, SPEECH_S, REST_S = 3.0, 12.1, 6.0  # of the microphone: three sentences between silences
SPOKEN = (ROOT / "samples" / "talk.es.txt").read_text(encoding="utf-8").splitlines()[:3]
WORST_WER = 0.20

OPTIONS = SessionOptions()
__all__ = ["chromium", "playwright"]  # fixtures


@pytest.fixture(scope="module")
def chain(chromium, tiny_folder):
    graph = start(ModelSpec("nano" if TRAINED else str(tiny_folder), threads=1))
    yield graph
    graph.stop()


@pytest.fixture(scope="module")
def served(chain):
    with serve(chain, OPTIONS, names=["dragoman.test"]) as page:
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


def wait_for_clock(page, seconds: float) -> None:
    """Until so much has been heard."""

    def heard() -> bool:
        clock = re.search(r"(\d+):(\d\d)", status(page))
        return clock is not None and int(clock[1]) * 60 + int(clock[2]) >= seconds

    end = time.monotonic() + PATIENCE_S
    while not heard():
        assert time.monotonic() < end, status(page)
        page.wait_for_timeout(200)


def shoot(page, name: str) -> None:
    """Keeps a picture in few colours: a third of the bytes."""
    if SCREENSHOTS:
        page.mouse.move(5, 5)
        page.wait_for_timeout(500)  # what is in motion comes to rest
        picture = Image.open(io.BytesIO(page.screenshot()))
        picture.convert("RGB").quantize(64).save(ROOT / "docs" / name, optimize=True)


def look_inside(page, said: list[str]) -> None:
    """The newest sentence, on a desktop and, in the dark, on a phone."""
    page.get_by_role("tab", name="Inside").click()
    page.locator("#dg-picture .dg-word").first.wait_for()
    words = texts(page, "#dg-picture .dg-transcript .dg-name")
    assert words == said[-1].split()
    page.set_viewport_size({"width": 1280, "height": 960})
    assert page.evaluate("document.querySelector('#dg-picture img').naturalWidth") > 50
    shoot(page, "inside.png")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("tab", name="Live").click()
    shoot(page, "phone.png")


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
            for rest in [
                "wav",
                "es.srt",
                "en.srt",
                "es-en.srt",
                "es.vtt",
                "en.vtt",
                "es-en.vtt",
                "json",
            ]
        }
        with page.expect_download() as saved:
            links["live.json"].click()
        form = json.loads(saved.value.path().read_text(encoding="utf-8"))
        said = [segment["transcript"] for segment in form["segments"]]
        assert [" ".join(text.split()) for text in said] == [" ".join(t.split()) for t in shown]
        with page.expect_download() as saved:
            links["live.es-en.srt"].click()
        assert "00:00:" in saved.value.path().read_text(encoding="utf-8")
        look_inside(page, shown)
        page.on("dialog", lambda dialog: dialog.accept())
        page.locator("#dg-clear").click()
        page.locator("#dg-captions .dg-empty").wait_for()
    # Nobody else was called.
    assert [url for url in asked if not url.startswith((served.url, "data:", "blob:"))] == []
    if TRAINED:
        assert word_error_rate(" ".join(SPOKEN), " ".join(shown)) <= WORST_WER, shown


def test_two_visitors_do_not_disturb_each_other_and_closed_tabs_end(
    playwright, chromium, chain, spoken
):
    with (
        serve(chain, OPTIONS) as served,
        opened(playwright, chromium, *fake_microphone(spoken)) as open_page,
    ):
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
        eventually(lambda: len(served.visitors) == 1 and len(chain.sessions()) == 1)
        before = first.locator(".dg-segment").count()
        assert before
        first.locator(".dg-segment").nth(before).wait_for()  # it still listens
        first.close()
        eventually(lambda: len(served.visitors) == 0 and chain.sessions() == [])


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
    if TRAINED:
        said = " ".join(segment["transcript"] for segment in segments)
        reference = (ROOT / "samples" / "talk.es.txt").read_text(encoding="utf-8")
        assert word_error_rate(reference, said) <= WORST_WER, said


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
        player, rows = page.locator(".dg-player"), page.locator("#dg-table tbody tr")
        player.wait_for()
        assert rows.count() > 0
        assert page.locator("#dg-gallery img").count() == 0
        assert player.bounding_box()["height"] < 80  # there is nothing to look at
        page.wait_for_function("() => document.querySelector('.dg-player').readyState >= 2")
        rows.last.click()
        page.locator("#dg-table tr.dg-now").wait_for()
        assert texts(page, "#dg-table .dg-now") == texts(page, "#dg-table tbody tr")[-1:]
        page.set_viewport_size({"width": 390, "height": 844})
        cell = rows.last.locator("td").last
        assert cell.bounding_box()["width"] > 250  # texts stand below each other
        assert page.evaluate("() => document.documentElement.scrollWidth") == 390


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


def test_a_page_that_is_not_secure_says_what_to_do(playwright, chromium, served):
    address = served.url.replace("127.0.0.1", "dragoman.test")
    rule = "--host-resolver-rules=MAP dragoman.test 127.0.0.1"
    with opened(playwright, chromium, rule) as open_page:
        page = open_page(address)
        page.locator("#dg-mic").wait_for(state="visible")
        said = page.locator("#dg-mic").inner_text()
        assert "https" in said and "http://localhost:" in said and "--ssl-certfile" in said
