"""The page of `dragoman demo` in a real browser, on a chain that says a word a chunk.

The browser is Chromium without a screen; its microphone beeps. What the page is worth with a model
is in `test_browser.py`.
"""

import json
import threading
import time
import wave
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import TimeoutError

from dragoman.demos import browser_live, browser_visitor
from dragoman.demos.browser_live import Live
from dragoman.pipeline.inputs import MEDIA_SUFFIXES
from dragoman.pipeline.runner import ActorDied
from dragoman.stages.messages import CHUNK_SAMPLES, Caption
from tests.demos.browsers import (
    MICROPHONE,
    TWO,
    chromium,
    local,
    opened,
    page_of,
    playwright,
    press,
    problems,
    served,
    speak,
    status,
    texts,
    wait_for_status,
)
from tests.waiting import PATIENCE_S, eventually

__all__ = ["chromium", "local", "playwright", "served"]  # fixtures
# A browser that asks takes its time to answer.
ASKING = """() => {
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  window.asked = 0;
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    window.asked++;
    await new Promise((done) => setTimeout(done, 700));
    return ask(wanted);
  };
}"""


def dialogs(page, answer: bool) -> list[str]:
    """What the page asks; each question is answered alike."""
    asked: list[str] = []

    def reply(dialog) -> None:
        asked.append(dialog.type)
        dialog.accept() if answer else dialog.dismiss()

    page.on("dialog", reply)
    return asked


@pytest.mark.parametrize("late", ["**/scripts/browser_sound.js", "**/api/visit"])
def test_what_can_be_pressed_is_heard(playwright, chromium, served, late):
    """The page's parts are there before its script and its key are."""
    with opened(playwright, chromium, *MICROPHONE) as open_page:
        page, held = open_page("about:blank", ready=False), []
        page.route(late, lambda route: held.append(route))
        page.goto(served.url, wait_until="commit")
        page.locator("#dg-captions").wait_for()
        page.wait_for_function("() => document.querySelector('#dg-record')")
        eventually(lambda: page.wait_for_timeout(20) or held)
        with pytest.raises(TimeoutError):
            page.locator("#dg-record").click(timeout=1_000)
        for request in held:
            request.continue_()
        press(page, "Record")
        page.locator(".dg-final").first.wait_for()
        press(page, "Stop")


@pytest.mark.parametrize("pause_ms", [0, 200])
def test_a_second_click_while_the_browser_asks_starts_no_second_recording(
    playwright, chromium, served, pause_ms
):
    with page_of(playwright, chromium, served) as page:
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url))
        page.evaluate(ASKING)
        click = "document.getElementById('dg-record').click()"
        page.evaluate(click)
        page.wait_for_timeout(pause_ms)
        page.evaluate(click)
        page.locator(".dg-segment").first.wait_for()
        assert page.evaluate("window.asked") == 1
        press(page, "Stop")
        wait_for_status(page, "Stopped")
        sent.clear()
        page.wait_for_timeout(2_000)
        assert [url for url in sent if "/hear/" in url] == []


@pytest.mark.parametrize("away_ms", [2_500, 8_000])
def test_a_broken_connection_costs_nothing(playwright, chromium, served, away_ms):
    with page_of(playwright, chromium, served) as page:
        loads: list[str] = []
        page.on("domcontentloaded", lambda: loads.append("again"))
        press(page, "Record")
        page.locator(".dg-final").nth(1).wait_for()
        page.context.set_offline(True)
        page.wait_for_timeout(away_ms)
        assert "kept for a minute" in page.locator("#dg-mic").inner_text()
        assert page.locator(".dg-final").count() >= 2
        page.context.set_offline(False)
        page.locator("#dg-mic").wait_for(state="hidden")
        before = page.locator(".dg-final").count()
        page.locator(".dg-final").nth(before + 2).wait_for()
        press(page, "Stop")
        wait_for_status(page, "Stopped")
        assert loads == []
        assert page.locator(".dg-hole").count() == 0
        said = texts(page, ".dg-final .dg-transcript")
        assert said[:-1] == ["w0 w1 w2 w3 w4"] * (len(said) - 1)  # nothing is missing between


def test_a_reload_brings_the_transcript_back_and_asks_before_that(playwright, chromium, served):
    with page_of(playwright, chromium, served) as page:
        asked = dialogs(page, answer=True)
        speak(page, 2)
        said = texts(page, ".dg-final .dg-transcript")
        page.reload()
        assert asked == ["beforeunload"]
        page.locator(".dg-final").nth(len(said) - 1).wait_for()
        assert texts(page, ".dg-final .dg-transcript") == said
        with page.expect_download() as saved:
            page.locator("#dg-live-files a", has_text="live.json").click()
        form = json.loads(saved.value.path().read_text(encoding="utf-8"))
        assert len(form["segments"]) == len(said)
        page.reload()  # it has been downloaded
        page.locator(".dg-final").first.wait_for()
        assert asked == ["beforeunload"]


def test_clear_asks_before_it_forgets(playwright, chromium, served):
    with page_of(playwright, chromium, served) as page:
        speak(page)
        page.once("dialog", lambda dialog: dialog.dismiss())
        page.locator("#dg-clear").click()
        page.wait_for_timeout(1_000)
        assert page.locator(".dg-final").count()
        page.once("dialog", lambda dialog: dialog.accept())
        page.locator("#dg-clear").click()
        page.locator(".dg-empty").wait_for()
        assert page.locator(".dg-final").count() == 0
        assert page.locator("#dg-live-files a").count() == 0


def test_a_page_that_the_server_forgot_keeps_what_it_shows(
    playwright, chromium, served, monkeypatch
):
    with page_of(playwright, chromium, served) as page:
        speak(page)
        monkeypatch.setattr(browser_visitor, "KEPT_S", 0)
        page.locator("#dg-mic", has_text="does not know this page").wait_for()
        assert page.locator(".dg-final").count()


@contextmanager
def slowly(local, monkeypatch):
    """Files wait in the middle until the context ends."""
    go_on, step = threading.Event(), local.step

    def wait(session, *chunks, **more):
        if chunks and chunks[0].start > 30 * CHUNK_SAMPLES:
            go_on.wait(PATIENCE_S)
        return step(session, *chunks, **more)

    monkeypatch.setattr(local, "step", wait)
    try:
        yield
    finally:
        go_on.set()


def test_closing_a_file_that_is_being_translated_leaves_an_empty_page(
    playwright, chromium, served, local, monkeypatch
):
    with page_of(playwright, chromium, served) as page:
        page.get_by_role("tab", name="Video").click()
        with slowly(local, monkeypatch):
            page.locator("#dg-clip").click()
            page.locator("#dg-video-status", has_text="Translating talk.mp4").wait_for()
            page.locator("#dg-table tbody tr").first.wait_for()
            page.locator("#dg-close").click()
            page.locator("#dg-table").wait_for(state="hidden")
            assert page.locator("#dg-video-status").inner_text().strip() == ""
        page.wait_for_timeout(2_500)
        assert page.locator("#dg-table tbody tr").count() == 0
        assert page.locator("#dg-video-status").inner_text().strip() == ""


def test_clear_does_not_disturb_a_file_that_is_being_translated(
    playwright, chromium, served, local, monkeypatch
):
    with page_of(playwright, chromium, served) as page:
        dialogs(page, answer=True)
        speak(page)
        page.get_by_role("tab", name="Video").click()
        with slowly(local, monkeypatch):
            page.locator("#dg-clip").click()
            page.locator("#dg-table tbody tr").first.wait_for()
            page.get_by_role("tab", name="Live").click()
            page.locator("#dg-clear").click()
            page.locator(".dg-empty").wait_for()
            page.get_by_role("tab", name="Video").click()
        page.locator(".dg-player").wait_for()
        page.locator("#dg-video-files a", has_text="talk.json").wait_for()


def sound_file(path: Path, seconds: float = 1.6) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(2 * round(seconds * 16_000)))
    return path


def test_one_list_of_kinds_and_a_refusal_leaves_an_empty_page(
    playwright, chromium, served, tmp_path
):
    wrong = tmp_path / "unknown.wv"
    wrong.write_bytes(np.random.default_rng(0).bytes(4_000))
    with page_of(playwright, chromium, served) as page:
        page.get_by_role("tab", name="Video").click()
        chosen = page.locator("#dg-file")
        offered = set((chosen.get_attribute("accept") or "").split(","))
        assert offered == MEDIA_SUFFIXES and {".ts", ".caf", ".mxf", ".asf", ".rm"} <= offered
        for file in (wrong, sound_file(tmp_path / "sound.rm"), wrong):
            chosen.set_input_files(file)
            if file is wrong:
                page.locator("#dg-video-status .dg-bad").wait_for()
                said = page.locator("#dg-video-status").inner_text()
                assert said.startswith("unknown.wv is not a media file") and "Waiting" not in said
                assert page.locator(".dg-player").count() == 0
            else:
                page.locator(".dg-player").wait_for()


def test_it_says_how_far_it_is_behind(playwright, chromium, served, local, monkeypatch):
    monkeypatch.setattr(browser_live, "STALLED_S", 5.0)
    go_on, step = threading.Event(), local.step
    with page_of(playwright, chromium, served) as page:
        press(page, "Record")
        page.locator(".dg-partial").wait_for()

        def wait(*args, **more):
            go_on.wait(PATIENCE_S)
            return step(*args, **more)

        monkeypatch.setattr(local, "step", wait)  # as when Ray does not answer
        begin = time.monotonic()
        page.locator("#dg-lag", has_text="behind").wait_for()
        assert page.locator(".dg-on").count() == 0
        page.locator("#dg-problem", has_text="far behind").wait_for()
        assert time.monotonic() - begin < 20
        go_on.set()
        page.locator("#dg-problem").wait_for(state="hidden")
        page.wait_for_function("() => !document.getElementById('dg-lag').textContent")
        press(page, "Stop")


def test_it_says_that_a_worker_was_replaced(playwright, chromium, served, local, monkeypatch):
    outcome, deaths = local.outcome, iter([ActorDied("killed")])

    def once(*args):
        if death := next(deaths, None):
            raise death
        return outcome(*args)

    with page_of(playwright, chromium, served) as page:
        press(page, "Record")
        page.locator(".dg-partial").wait_for()
        assert page.locator("#dg-note").inner_text() == ""
        monkeypatch.setattr(local, "outcome", once)
        page.locator("#dg-note", has_text="Nothing is lost").wait_for()
        shown = page.locator(".dg-final").count()
        page.locator(".dg-final").nth(shown + 1).wait_for()
        assert page.locator("#dg-problem").is_hidden()
        press(page, "Stop")
        wait_for_status(page, "Stopped")
        assert page.locator("#dg-note").inner_text() == ""


def test_an_answer_that_breaks_off_does_not_end_the_page(playwright, chromium, served):
    with page_of(playwright, chromium, served) as page:
        page.route("**/api/state/**", lambda route: route.fulfill(body='{"live": '))
        press(page, "Record")
        page.locator("#dg-mic", has_text="does not answer").wait_for()
        page.unroute("**/api/state/**")
        page.locator(".dg-final").first.wait_for()
        press(page, "Stop")


class Told(Live):
    """A transcript in which ``before`` has been said 1 500 times, in segments of 0.8 s."""

    before: Caption

    def rows(self, since: int = 0):
        rows, unsettled = super().rows(max(0, since - 1_500))
        return [self.before] * (1_500 - since) + rows, unsettled


def test_after_twenty_minutes_an_answer_costs_what_is_new(playwright, chromium, served):
    with page_of(playwright, chromium, served) as page:
        eventually(lambda: len(served.visitors) and page.evaluate("sessionStorage.length"))
        key = page.evaluate("sessionStorage.getItem('dragoman-key')")
        visitor = served.visitors.get(key)
        press(page, "Record")
        page.locator(".dg-final").first.wait_for()
        (Told.before, *_), _ = visitor.live.rows()
        visitor.live.clear()
        visitor.live = Told(visitor._listen, visitor._record)
        page.locator(".dg-final").nth(1_500).wait_for()
        answers = []
        page.on("response", lambda answer: answers.append(answer) if "/state/" in answer.url else 0)
        eventually(lambda: page.wait_for_timeout(20) or len(answers) >= 6)
        sizes = [len(answer.body()) for answer in answers[1:-1]]
        took = [answer.request.timing["responseEnd"] for answer in answers[1:-1]]
        assert len(sizes) >= 4 and max(sizes) < 3_000, sizes
        assert np.median(took) < 400, took
        # No file is written that nobody asked for: there is the sound alone.
        assert {path.suffix for path in visitor.folder.iterdir()} == {".pcm"}
        press(page, "Stop")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(playwright, chromium, served, scheme):
    with page_of(playwright, chromium, served, scheme=scheme) as page:
        page.evaluate(TWO)
        press(page, "Record")
        page.locator(".dg-final").first.wait_for()
        page.locator(".dg-partial .dg-tail").first.wait_for()
        assert problems(page) == []
        press(page, "Stop")
        wait_for_status(page, "Stopped")
        page.locator("#dg-live-files a").first.wait_for()
        assert problems(page) == []
        page.get_by_role("tab", name="Video").click()
        assert problems(page) == []
        page.locator("#dg-clip").click()
        page.locator(".dg-player").wait_for()
        page.locator("#dg-table tbody tr").nth(2).wait_for()
        assert problems(page) == []
        assert page.locator(".dg-player").get_attribute("aria-label") == "talk.mp4"


def test_rows_and_pictures_are_reached_by_keyboard(playwright, chromium, served):
    with page_of(playwright, chromium, served) as page:
        page.get_by_role("tab", name="Video").click()
        page.locator("#dg-clip").click()
        page.locator(".dg-player").wait_for()
        page.wait_for_function("() => document.querySelector('.dg-player').readyState >= 2")
        page.locator("#dg-table .dg-seek").nth(9).focus()
        page.keyboard.press("Enter")
        now = "() => document.querySelector('.dg-player').currentTime"
        page.wait_for_function(f"() => ({now})() > 7")
        assert page.evaluate(now) == pytest.approx(7.2, abs=0.05)


def test_what_screen_readers_tell_does_not_change_each_second(playwright, chromium, served):
    with page_of(playwright, chromium, served) as page:
        press(page, "Record")
        page.locator(".dg-final").first.wait_for()
        page.evaluate(
            "() => { window.told = 0; new MutationObserver((all) => window.told += all.length)"
            ".observe(document.getElementById('dg-state'),"
            " {childList: true, characterData: true, subtree: true, attributes: true}) }"
        )
        clock = status(page)
        page.wait_for_timeout(2_500)
        assert status(page) != clock and page.evaluate("window.told") == 0
        press(page, "Stop")


@pytest.mark.parametrize("width", [320, 390, 640, 1280])
def test_controls_do_not_overlap_with_two_microphones(playwright, chromium, served, width):
    with page_of(playwright, chromium, served) as page:
        page.evaluate(TWO)
        page.set_viewport_size({"width": width, "height": 800})
        press(page, "Record")
        page.locator("#dg-devices").wait_for()
        page.locator(".dg-final").first.wait_for()
        parts = [
            "#dg-language",
            "#dg-target",
            "#dg-size",
            "#dg-record",
            ".dg-meter",
            "#dg-devices",
            ".dg-bar .dg-status",
            "#dg-share",
            "#dg-big",
            "#dg-clear",
        ]
        boxes = [page.locator(part).bounding_box() for part in parts]
        for at, one in enumerate(boxes):
            assert one["x"] >= 0 and one["x"] + one["width"] <= width, parts[at]
            for other, name in zip(boxes[at + 1 :], parts[at + 1 :], strict=True):
                beside = (
                    one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
                )
                below = (
                    one["y"] + one["height"] <= other["y"]
                    or other["y"] + other["height"] <= one["y"]
                )
                assert beside or below, (parts[at], name)
        press(page, "Stop")
