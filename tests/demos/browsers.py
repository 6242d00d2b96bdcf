"""What the tests of the page share: a browser without a screen, and a chain without a model."""

import os
import secrets
import shutil
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from dragoman.demos.browser import serve
from dragoman.demos.browser_live import Live
from dragoman.demos.browser_recorded import Recorded
from dragoman.demos.browser_runs import PageSession
from dragoman.stages.messages import SessionOptions
from tests.pipeline.chains import in_process
from tests.pipeline.fake_stages import fakes
from tests.waiting import PATIENCE_S

MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
WCAG_AA = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
# Two microphones with long names, as headsets have them.
TWO = """() => {
  const list = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices);
  navigator.mediaDevices.enumerateDevices = async () => [
    ...(await list()),
    { kind: "audioinput", deviceId: "two", label: "A second microphone with quite a long name" },
  ];
}"""


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


def fake_chain():
    """A chain in this process that says a word a chunk."""
    chain = in_process(fakes())
    chain.model = "nano"
    yield chain
    chain.stop()


@pytest.fixture(scope="module")
def local():
    yield from fake_chain()


@pytest.fixture(scope="module")
def served(local):
    """The page on that chain."""
    with serve(local, SessionOptions()) as page:
        yield page


def live_on(chain, free: threading.Semaphore | None = None) -> Live:
    """A transcript of sessions on ``chain``, which take their places from ``free``."""
    free = free or threading.Semaphore(16)
    folder = Path(tempfile.mkdtemp(prefix="dragoman-test-"))
    return Live(
        lambda pieces, tell: PageSession(chain, pieces, SessionOptions(), "live", free, tell=tell),
        lambda: Recorded(folder / f"{secrets.token_hex(4)}.pcm", lambda size: True),
    )


@contextmanager
def opened(playwright, chromium, *args, allow=True, scheme="light"):
    """A function that opens a page in a visitor's browser of its own."""
    browser = playwright.chromium.launch(
        executable_path=chromium,
        args=["--no-sandbox", "--disable-background-networking", *args],
    )

    def open_page(url: str, ready: bool = True):
        context = browser.new_context(
            viewport={"width": 1280, "height": 800},
            color_scheme=scheme,
            permissions=["microphone"] if allow else [],
        )
        page = context.new_page()
        page.set_default_timeout(1_000 * PATIENCE_S)
        page.goto(url)
        if ready:
            page.locator("#dg-record").wait_for()
        return page

    try:
        yield open_page
    finally:
        browser.close()


def fake_microphone(sound: Path | str) -> list[str]:
    """Hears ``sound`` again and again, or once where it ends with `%noloop`."""
    return [
        *MICROPHONE,
        f"--use-file-for-fake-audio-capture={sound}",
    ]


@contextmanager
def page_of(playwright, chromium, served, **options):
    with opened(playwright, chromium, *MICROPHONE, **options) as open_page:
        yield open_page(served.url)


def press(page, label: str) -> None:
    page.locator("#dg-record", has_text=label).click()


def status(page) -> str:
    return page.locator(".dg-bar .dg-status").inner_text()


def wait_for_status(page, word: str) -> None:
    page.locator(".dg-bar .dg-status", has_text=word).wait_for()


def texts(page, selector: str) -> list[str]:
    return [text.strip() for text in page.locator(selector).all_inner_texts()]


def speak(page, segments: int = 1) -> None:
    """Records until there are so many segments, then stops."""
    press(page, "Record")
    page.locator(".dg-final").nth(segments - 1).wait_for()
    press(page, "Stop")
    wait_for_status(page, "Stopped")


def problems(page) -> list[str]:
    """What of WCAG AA the page misses, and where."""
    found = Axe().run(page, options=WCAG_AA).response["violations"]
    return [
        f"{one['id']}: {node['html'][:150]} {node['failureSummary']}"
        for one in found
        for node in one["nodes"]
    ]
