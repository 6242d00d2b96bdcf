"""What the page does where a connection breaks, the server has forgotten it, or it is narrow.

On the chain of `test_page.py`, which says a word a chunk.
"""

from tests.demos.browsers import chromium, local, page_of, playwright, served, speak
from tests.waiting import eventually

__all__ = ["chromium", "local", "playwright", "served"]  # fixtures
BACK = "() => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))"


def key(page) -> str:
    return page.evaluate("sessionStorage.getItem('dragoman-key')")


def test_a_sentence_whose_picture_did_not_arrive_is_asked_for_again(playwright, chromium, served):
    with page_of(playwright, chromium, served) as page:
        speak(page)
        page.route("**/inside/*/*", lambda route: route.abort(), times=1)
        page.get_by_role("tab", name="Inside").click()
        page.locator("#dg-picture canvas").wait_for()


def test_a_page_that_comes_back_to_a_server_that_forgot_it_says_so(playwright, chromium, served):
    with page_of(playwright, chromium, served) as page:
        speak(page)
        gone = key(page)
        page.route("**/api/state/**", lambda route: route.abort())  # it is back before it asks
        with served.visitors._lock:
            served.visitors._open.pop(gone).close()
        page.evaluate(BACK)
        eventually(lambda: page.wait_for_timeout(20) or key(page) != gone)
        page.unroute("**/api/state/**")
        page.locator("#dg-mic", has_text="does not know this page").wait_for()
        assert page.locator(".dg-final").count()


def test_clear_says_that_the_server_does_not_answer(playwright, chromium, served):
    with page_of(playwright, chromium, served) as page:
        speak(page)
        page.on("dialog", lambda dialog: dialog.accept())
        page.context.set_offline(True)
        page.locator("#dg-clear").click()
        page.locator("#dg-mic", has_text="does not answer").wait_for()
        assert page.locator(".dg-final").count()
        page.context.set_offline(False)
        page.locator("#dg-mic").wait_for(state="hidden")  # it answers again


def test_the_list_of_keys_keeps_to_a_narrow_window(playwright, chromium, served):
    with page_of(playwright, chromium, served) as page:
        page.locator("body.dg-ready").wait_for()
        page.set_viewport_size({"width": 320, "height": 700})
        page.keyboard.press("?")
        page.locator("#dg-keys-dialog").wait_for()
        assert page.evaluate(
            "(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth)"
            "(document.querySelector('#dg-keys-dialog'))"
        )
