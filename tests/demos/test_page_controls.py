"""What visitors choose, share and look into on the page, in a real browser.

On the chain of `test_page.py`, which says a word a chunk.
"""

import re
import wave
from pathlib import Path

import numpy as np
import pytest

from dragoman.demos.browser_choices import Choices
from tests.demos.browsers import (
    MICROPHONE,
    chromium,
    fake_microphone,
    local,
    opened,
    page_of,
    playwright,
    press,
    problems,
    served,
    speak,
    texts,
    wait_for_status,
)
from tests.waiting import PATIENCE_S, eventually

__all__ = ["chromium", "local", "playwright", "served"]  # fixtures
MANY = Choices("many", (("es", "en"), ("en", "es"), ("fr", "en"), ("fr", "es")), ("full", "half"))
# A browser whose sound runs at another rate.
AT_RATE = """() => {
  const Usual = AudioContext;
  window.AudioContext = class extends Usual {
    constructor(options) { super({ ...options, sampleRate: RATE }); }
  };
}"""
# One that takes a microphone at its own rate alone, as Firefox does.
PARTICULAR = """() => {
  const Usual = AudioContext;
  window.AudioContext = class extends Usual {
    constructor({ sampleRate = 96000 }) { super({ sampleRate }); }
    createMediaStreamSource(stream) {
      const { sampleRate } = stream.getAudioTracks()[0].getSettings();
      if (sampleRate === this.sampleRate) return super.createMediaStreamSource(stream);
      throw new DOMException("another rate", "NotSupportedError");
    }
  };
}"""
# The microphone that is used, to do to it what its owner does.
HELD = """() => {
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => (window.held = await ask(wanted));
}"""
HAPPENS = "(name) => window.held.getAudioTracks()[0].dispatchEvent(new Event(name))"


def shown(page, id: str) -> list[str]:
    return page.locator(f"#{id} option").all_inner_texts()


def explanation(page, words: str) -> str:
    said = page.locator("#dg-mic", has_text=words)
    said.wait_for()
    return said.inner_text()


def wav(path: Path, samples: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def test_languages_and_size_of_the_next_recording_are_chosen_in_the_page(
    playwright, chromium, served, monkeypatch
):
    monkeypatch.setattr(served.visitors, "choices", MANY)
    with page_of(playwright, chromium, served) as page:
        speak(page)
        assert shown(page, "dg-language") == ["English", "French", "Spanish"]
        assert shown(page, "dg-target") == ["English"]
        assert page.locator("#dg-target").is_disabled()  # nothing to choose
        page.locator("#dg-language").select_option("English")  # Spanish is all that goes with it
        eventually(lambda: page.wait_for_timeout(20) or shown(page, "dg-target") == ["Spanish"])
        page.locator("#dg-swap").click()
        eventually(lambda: page.wait_for_timeout(20) or shown(page, "dg-target") == ["English"])
        page.locator("#dg-size").select_option("half")
        page.locator("#dg-language").select_option("French")
        eventually(lambda: page.wait_for_timeout(20) or len(shown(page, "dg-target")) == 2)
        before = page.locator(".dg-final").count()
        page.reload()  # it is the visitor's choice
        page.locator("#dg-language:enabled").wait_for()
        assert page.locator("#dg-language").input_value() == "fr"
        visitor = served.visitors.get(page.evaluate("sessionStorage.getItem('dragoman-key')"))
        assert (visitor.options.language, visitor.options.size) == ("fr", "half")
        eventually(lambda: page.wait_for_timeout(20) or page.locator(".dg-final").count() == before)
        speak(page, before + 1)
        assert page.locator(".dg-final .dg-transcript[lang=es]").count() == before
        assert page.locator(".dg-final .dg-transcript[lang=fr]").count()
        # Each pair of languages has its files.
        page.locator("#dg-live-files a", has_text="live-2.fr.srt").wait_for()
        names = texts(page, "#dg-live-files a")
        assert {"live.es.srt", "live.json", "live-2.fr-en.vtt", "live-2.json"} <= set(names)
        page.get_by_role("tab", name="Video").click()
        page.locator("#dg-clip").click()
        page.locator(".dg-player").wait_for()
        assert texts(page, "#dg-table th") == ["Time", "French", "English"]


def test_others_read_by_a_link_until_it_is_ended(playwright, chromium, served):
    with opened(playwright, chromium, *MICROPHONE) as open_page:
        page = open_page(served.url)
        speak(page)
        page.locator("#dg-share").click()
        page.locator("#dg-share-dialog").wait_for()
        assert problems(page) == []
        assert page.evaluate("document.querySelector('#dg-code').naturalWidth") > 50
        assert "this computer alone" in page.locator("#dg-reach").inner_text()
        link = page.locator("#dg-link").get_attribute("href") or ""
        page.locator("#dg-share-close").click()
        viewer = page.context.new_page()
        viewer.goto(link)
        viewer.locator("#captions div").first.wait_for()
        before = viewer.locator("#captions div").count()
        press(page, "Record")
        viewer.locator("#captions div").nth(before + 1).wait_for()  # while it is spoken
        viewer.locator("#language").select_option("en")
        said = viewer.locator("#captions div").first.inner_text().split()
        assert said == ["W0", "W1", "W2", "W3", "W4"]
        press(page, "Stop")
        page.on("dialog", lambda dialog: dialog.accept())
        page.locator("#dg-clear").click()
        page.locator(".dg-empty").first.wait_for()
        late = page.context.new_page()
        late.goto(link)
        late.locator("#status", has_text="Live").wait_for()
        assert late.locator("#captions div").count() == 0  # what was cleared is told nobody
        page.locator("#dg-share", has_text="Sharing").click()
        page.locator("#dg-unshare").click()
        viewer.locator("#status", has_text="Ended").wait_for()
        answer = page.context.request.get(link)
        assert answer.status == 404 and "ask for a new link" in answer.text()


def test_keys_record_show_big_text_and_can_be_switched_off(playwright, chromium, served):
    with page_of(playwright, chromium, served) as page:
        page.keyboard.press("r")
        page.locator(".dg-final").first.wait_for()
        size = (
            "() => parseFloat(getComputedStyle(document.querySelector('.dg-translation')).fontSize)"
        )
        usual = page.evaluate(size)
        page.keyboard.press("b")
        page.locator("#dg-small").wait_for()
        assert page.evaluate(size) > 1.8 * usual
        box = page.locator("#dg-captions").bounding_box()
        assert (box["x"], box["y"], box["width"]) == (0, 0, 1280)
        for other in ("#dg-record", "#dg-share", "#dg-language"):
            page.locator(other).wait_for(state="hidden")
        assert problems(page) == []
        page.keyboard.press("r")  # a speaker can stop from here
        page.keyboard.press("Escape")
        page.locator("#dg-share").wait_for()
        wait_for_status(page, "Stopped")
        for key, part in {"3": "#dg-inside", "2": ".dg-drop", "1": "#dg-record"}.items():
            page.keyboard.press(key)
            page.locator(part).wait_for()
        page.keyboard.press("?")
        page.locator("#dg-keys-dialog").wait_for()
        assert problems(page) == []
        page.locator("#dg-keys-close").focus()
        page.keyboard.press("r")  # a dialog has the keys
        assert page.locator("#dg-record").inner_text() == "Record"
        page.locator("#dg-keys-on").uncheck()
        page.locator("#dg-keys-close").click()
        page.keyboard.press("r")
        page.reload()
        page.locator("#dg-record").wait_for()
        page.keyboard.press("r")
        page.wait_for_timeout(500)
        assert page.locator("#dg-record").inner_text() == "Record"


def test_the_inside_of_a_sentence_is_shown(playwright, chromium, served):
    with page_of(playwright, chromium, served, scheme="dark") as page:
        page.set_viewport_size({"width": 390, "height": 900})
        page.get_by_role("tab", name="Inside").click()
        page.locator("#dg-inside .dg-empty").wait_for()
        page.get_by_role("tab", name="Live").click()
        speak(page, 2)
        page.get_by_role("tab", name="Inside").click()
        page.locator("#dg-segments button").nth(1).click()
        page.locator("#dg-segments button:nth-child(2)[aria-pressed=true]").wait_for()
        page.locator("#dg-picture .dg-word").nth(9).wait_for()
        assert texts(page, "#dg-picture .dg-transcript .dg-name") == ["w0", "w1", "w2", "w3", "w4"]
        assert page.locator("#dg-picture .dg-token").count() == 5
        assert page.evaluate("document.querySelector('#dg-picture img').naturalHeight") == 128
        # Whatever a bar tells lies in the picture, a word not before the one in front of it.
        starts = page.locator("#dg-picture .dg-transcript .dg-spoken").evaluate_all(
            "all => all.map((bar) => bar.getBoundingClientRect().left)"
        )
        assert len(starts) == 5 and starts == sorted(starts)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.locator("#dg-picture summary").click()
        assert page.locator("#dg-picture tbody tr").count() == 10
        assert problems(page) == []
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": 1280, "height": 900})
        assert eventually(lambda: not problems(page))  # colours change slowly
        page.evaluate("() => { const a = document.querySelector('#dg-picture audio');"
                      " a.muted = true; return a.play() }")  # fmt: skip
        page.wait_for_function("() => document.querySelector('#dg-picture audio').duration > .7")
        page.on("dialog", lambda dialog: dialog.accept())
        page.get_by_role("tab", name="Live").click()
        page.locator("#dg-clear").click()
        page.get_by_role("tab", name="Inside").click()
        page.locator("#dg-inside .dg-empty").wait_for()
        assert page.locator("#dg-picture").inner_text() == ""


@pytest.mark.parametrize(
    ("browser", "expected"),
    [
        (AT_RATE.replace("RATE", "44100"), {"44100"}),
        (AT_RATE.replace("RATE", "96000"), {"96000"}),
        (PARTICULAR, {"48000"}),  # Chromium's fake microphone
    ],
    ids=["44.1 kHz", "96 kHz", "that of the microphone"],
)
def test_a_recording_at_any_rate_gives_its_sound_and_subtitles(
    playwright, chromium, served, browser, expected
):
    with opened(playwright, chromium, *MICROPHONE) as open_page:
        page, rates = open_page("about:blank", ready=False), set()
        page.add_init_script(f"({browser})()")
        page.on("request", lambda sent: rates.update(re.findall(r"/hear/.*rate=(\d+)", sent.url)))
        page.goto(served.url)
        speak(page)
        assert rates == expected
        assert texts(page, ".dg-final .dg-transcript")[0] == "w0 w1 w2 w3 w4"
        with page.expect_download() as saved:
            page.locator("#dg-live-files a", has_text="live.wav").click()
        with wave.open(str(saved.value.path())) as file:
            assert file.getframerate() == 16_000
            sound = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        clock = re.search(r"(\d+):(\d\d)", page.locator("#dg-clock").inner_text())
        assert clock is not None and len(sound) // 16_000 == int(clock[2])
        assert np.abs(sound).max() > 1_000  # the beep


def test_a_microphone_that_goes_silent_or_away_is_explained(playwright, chromium, served, tmp_path):
    noise = np.random.default_rng(0).integers(-900, 900, 16_000)
    sound = wav(tmp_path / "silent.wav", np.concatenate([np.zeros(6 * 16_000), noise]))
    with opened(playwright, chromium, *fake_microphone(sound)) as open_page:
        page = open_page(served.url)
        page.evaluate(HELD)
        press(page, "Record")
        assert "muted" in explanation(page, "No sound at all")
        page.locator("#dg-mic").wait_for(state="hidden")  # there is some
        page.evaluate(HAPPENS, "mute")
        assert "Unmute it" in explanation(page, "is muted by the system")
        page.evaluate(HAPPENS, "unmute")
        page.locator("#dg-mic").wait_for(state="hidden")
        page.evaluate(HAPPENS, "ended")
        assert "press Record again" in explanation(page, "went away")
        page.locator("#dg-record", has_text="Record").wait_for()
        wait_for_status(page, "Stopped")


def test_an_upload_tells_how_far_it_is(playwright, chromium, served, tmp_path):
    large = wav(tmp_path / "large.wav", np.zeros(40 * 16_000))
    with page_of(playwright, chromium, served) as page:
        page.get_by_role("tab", name="Video").click()
        page.locator("#dg-file").wait_for(state="attached")
        network = page.context.new_cdp_session(page)
        network.send(
            "Network.emulateNetworkConditions",
            {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 400_000},
        )
        page.locator("#dg-file").set_input_files(large)
        page.wait_for_function(
            "() => { const bar = document.querySelector('#dg-progress[role=progressbar]');"
            " const now = bar && Number(bar.getAttribute('aria-valuenow'));"
            " return bar?.ariaLabel.startsWith('Sending large.wav') && now > 5 && now < 100 }",
            polling=20,
            timeout=1_000 * PATIENCE_S,
        )
        page.locator(".dg-player, #dg-video-status .dg-bad").first.wait_for()
