"""Screens tell words apart by how sure the model is of them."""

import pytest
import rich.text
from rich.console import Console

from dragoman.demos.browser_view import row
from dragoman.demos.certainty import Part, parts
from dragoman.demos.terminal import lines
from dragoman.stages.messages import Caption, Text

TEXT = Text("El tren sale", " hoy", (0.9, 0.2, 0.3, 0.1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TEXT, [("El", "sure"), (" tren sale", "unsure"), (" hoy", "tail")]),
        (Text("El tren"), [("El tren", "sure")]),
        (Text("", "El", (0.1,)), [("El", "tail")]),
        (Text("El ", "", (0.1,)), [("El", "unsure"), (" ", "sure")]),
        (Text(), []),
        (
            Text("今日は。", "雨", (0.9, 0.2, 0.9, 0.1)),
            [("今", "sure"), ("日", "unsure"), ("は。", "sure"), ("雨", "tail")],
        ),
    ],
)
def test_parts_join_to_the_text(text, expected):
    assert parts(text) == [Part(*part) for part in expected]
    assert "".join(part.text for part in parts(text)) == text.whole


def caption(text):
    return Caption("partial", 0, 0, 16_000, "es", "en", text, Text())


def test_the_terminal_dims_them():
    console = Console(force_terminal=True, color_system="truecolor", no_color=False)
    transcript = lines(caption(TEXT), console).renderables[0]
    assert isinstance(transcript, rich.text.Text)
    styles = {transcript.plain[span.start : span.end]: str(span.style) for span in transcript.spans}
    assert styles[" tren sale"] == "dim" and styles["El"] == "default"


def test_the_page_dims_them():
    assert '<span>El</span><span class="dg-unsure"> tren sale</span>' in row(caption(TEXT))
