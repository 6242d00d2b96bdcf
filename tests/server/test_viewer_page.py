"""The page of viewers in a real browser: what is said, in the language that is picked."""

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe

from dragoman.server.limits import Limits
from tests.demos.browsers import chromium, playwright  # noqa: F401
from tests.server.servers import SEGMENT_S, Socket, served, tone
from tests.waiting import PATIENCE_S, eventually

PATH = "/v1/realtime?intent=transcription&rate=16000"


@pytest.fixture(scope="module")
def browser(playwright, chromium):  # noqa: F811
    started = playwright.chromium.launch(
        executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"]
    )
    yield started
    started.close()


@pytest.fixture
def spoken(fake):
    """A session of two segments, and its page's address."""
    with served(fake) as url, Socket(url, PATH) as socket:
        socket.append(tone(2 * SEGMENT_S))
        for _ in range(2):
            socket.until("input_audio_buffer.speech_stopped")
        yield socket, url + socket.created["session"]["viewers"]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_it_shows_what_is_said_and_keeps_to_accessibility(browser, spoken, scheme, width):
    socket, address = spoken
    errors: list[str] = []
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    page.set_default_timeout(1000 * PATIENCE_S)
    page.on(
        "console", lambda message: errors.append(message.text) if message.type == "error" else 0
    )
    page.goto(address)
    page.locator("#captions div").nth(1).wait_for()
    assert page.locator("#status").inner_text() == "Live"
    page.locator("#language").select_option("en")
    assert page.locator("#captions").inner_text().split() == ["W0", "W1", "W2", "W3", "W4"] * 2
    socket.append(tone(SEGMENT_S))  # said while it is open
    page.locator("#captions div").nth(2).wait_for()
    page.locator("#share").click()
    page.locator("#code img").wait_for()
    assert page.evaluate("document.querySelector('#code img').naturalWidth") > 50
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    socket.socket.close()
    page.locator("#status", has_text="Ended").wait_for()
    assert errors == []
    page.close()


def test_a_stream_that_comes_after_the_end_is_said_to_have_ended(browser, fake):
    with served(fake, limits=Limits(resume_s=0.1)) as url:
        socket = Socket(url, PATH)
        address = url + socket.created["session"]["viewers"]

        def late(route) -> None:
            """The network lets the stream's request through when nobody knows the session."""
            socket.socket.close()
            eventually(lambda: httpx.get(address).status_code == 404)
            route.continue_()

        page = browser.new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        page.route("**/v1/captions/*", late)
        page.goto(address)
        page.locator("#status", has_text="Ended").wait_for()
        page.close()
