"""The page of `dragoman demo` in a real browser, on a chain that says a word a chunk.

The browser is Chromium without a screen; its microphone beeps. What the page is worth with a model
is in `test_browser.py`.
"""

import pytest

from dragoman.demos.browser import serve
from dragoman.stages.messages import SessionOptions
from tests.demos.browsers import (
    chromium,
    fake_chain,
    opened,
    playwright,
    press,
    wait_for_status,
)

__all__ = ["chromium", "playwright"]  # fixtures
MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
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


@pytest.fixture(scope="module")
def local():
    yield from fake_chain()


@pytest.fixture(scope="module")
def served(local):
    with serve(local, SessionOptions()) as page:
        yield page


@pytest.mark.parametrize("pause_ms", [0, 200])
def test_a_second_click_while_the_browser_asks_starts_no_second_recording(
    playwright, chromium, served, pause_ms
):
    with opened(playwright, chromium, *MICROPHONE, timeout_ms=30_000) as open_page:
        page = open_page(served.url)
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
