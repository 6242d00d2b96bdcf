"""What the terminal shows of captions."""

import io
from typing import Literal

import pytest
from rich.console import Console

from dragoman.demos import letters as fonts
from dragoman.demos.big import BigView
from dragoman.demos.choice import Choice
from dragoman.demos.terminal import TAIL_STYLE, LiveView, clock, lines
from dragoman.stages.messages import Caption, Text


def partial(
    committed: str, tail: str, kind: Literal["partial", "final"] = "partial", segment: int = 0
) -> Caption:
    both = Text(committed, tail)
    return Caption(kind, segment, 160_000, 170_000, "es", "en", both, Text("the", " end"))


def test_what_may_still_change_is_grey_and_what_is_committed_is_not():
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, color_system="standard", width=60)
    console.print(lines(partial("el fin", " del"), console))
    out = written.getvalue()
    grey = console.get_style(TAIL_STYLE).render(" del", color_system=console._color_system)
    assert grey in out
    assert "el fin" in out and "el fin del" not in out


def test_the_live_view_prints_each_finished_segment_once():
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, color_system=None, width=60)
    with LiveView(console, lambda width: "status") as view:
        view.show(partial("uno", " dos"))
        view.show(partial("uno dos tres", "", "final"))
        view.show(partial("otra", "", segment=1))
    out = written.getvalue()
    assert out.count("uno dos tres") == 1 and "status" in out
    assert out.index("uno dos tres") < out.rindex("otra")


def test_a_caption_that_is_too_high_shows_its_newest_words():
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, color_system=None, width=20, height=5)
    with LiveView(console, lambda width: "status") as view:
        view.show(partial("uno " * 40, "ahora"))
        assert "ahora" in written.getvalue() and "status" in written.getvalue()


@pytest.mark.parametrize("letters", ["We waited", "日本語"])
def test_large_letters_are_drawn_where_there_is_a_font_for_them(letters):
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, color_system=None, width=80, height=24)
    said = Caption("partial", 0, 0, 1, "es", "en", Text("Esperamos"), Text(letters))
    with BigView(console, lambda width: "status", Choice(["en", "es"])) as view:
        view.show(said)
        out = written.getvalue()
    large = fonts.font(80, 22) is not None and letters.isascii()
    assert ("█" in out) == large and (letters in out) == (not large)


@pytest.mark.parametrize(
    ("sample", "text"),
    [(0, "0:00.0"), (119_999, "0:07.4"), (16_000 * 3723, "1:02:03.0"), (16_000 * 600, "10:00.0")],
)
def test_times_are_for_people(sample, text):
    assert clock(sample) == text
