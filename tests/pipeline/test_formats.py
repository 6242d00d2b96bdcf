"""Every format keeps every text: written, and read again by a library that is not ours."""

import html
import unicodedata
from xml.etree import ElementTree

import pysubs2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dragoman.pipeline.formats import FORMATS, Cue, tag

READ_AGAIN = ["srt", "vtt", "ass", "ttml"]
ODD = [
    "40",
    "00:00:01,000 --> 00:00:02,000",
    "00:01.000 --> 00:02.000",
    "<i>",
    "</i> < b >",
    "a < b && c > d",
    "&amp;",
    "שלום, 40!",
    "‏מרחבא GPU",
    "👩‍👩‍👧 🇪🇸",
    "WEBVTT",
    "NOTE",
    "[Events]",
    "Dialogue: 0,0:00:00.00",
    "{\\an8}top",
    "\x00\x1b[31m",
    "日本語。",
    "",
]
lines = st.sampled_from(ODD) | st.text(max_size=20)
cue_lists = st.lists(st.lists(lines, min_size=1, max_size=2), max_size=5)


def cues_of(texts: list[list[str]]) -> list[Cue]:
    return [
        Cue(at * 2_000 + 500, at * 2_000 + 1_990, tuple(text))
        for at, text in enumerate(texts)
        if any(map(visible, text))
    ]


def visible(text: str) -> str:
    """What is seen of a text: neither marks without width, nor which letter stands for a sign that
    the format cannot have.
    """
    hidden = ("Cf", "Cc", "Cs", "Cn")
    seen = "".join(c for c in text if c.isspace() or unicodedata.category(c) not in hidden)
    return " ".join(seen.translate(str.maketrans("⧵｛｝", "\\{}")).split())


def read_again(name: str, written: str) -> list[tuple[int, int, list[str]]]:
    """By pysubs2; tags are kept, so that one that was meant as text is text."""
    options = {"keep_html_tags": True} if name in ("srt", "vtt") else {}
    events = pysubs2.SSAFile.from_string(written, format_=name, **options).events
    texts = [html.unescape(e.text) if name == "vtt" else e.text for e in events]
    return [(e.start, e.end, t.split("\\N")) for e, t in zip(events, texts, strict=True)]


@given(cue_lists)
@settings(deadline=None, max_examples=50)
@example([["a", "40"]])
@example([["40"], ["41"]])
@example([["00:00:01,000 --> 00:00:02,000", "<i>"]])
@pytest.mark.parametrize("name", READ_AGAIN)
def test_cues_times_and_words_survive(name, texts):
    cues = cues_of(texts)
    found = read_again(name, FORMATS[name](cues))
    assert [(start, end) for start, end, _ in found] == [(c.start_ms, c.end_ms) for c in cues]
    for (_, _, shown), cue in zip(found, cues, strict=True):
        kept = [line for line in map(visible, cue.lines) if line]
        assert [line for line in map(visible, shown) if line] == kept


@pytest.mark.parametrize("text", ["<i>Hola</i>", "<b>", "< u >", "</font>"])
def test_a_tag_that_was_said_is_no_tag(text):
    written = FORMATS["srt"]([Cue(0, 1_000, (text,))])
    (event,) = pysubs2.SSAFile.from_string(written, format_="srt")
    assert visible(event.plaintext) == text


def test_usual_texts_hold_no_marks():
    usual = Cue(0, 1_000, ("A las 12:30, 3 < 4: «¿40 o 41?»", "de 9:00 a 10:15 -> sí"))
    for name in READ_AGAIN:
        assert not any(unicodedata.category(c) == "Cf" for c in FORMATS[name]([usual]))


def test_ttml_is_what_its_readers_ask_for():
    written = FORMATS["ttml"]([Cue(3_723_450, 3_725_000, ("a & b", "c"), "es")])
    root = ElementTree.fromstring(written)
    tt = "{http://www.w3.org/ns/ttml}"
    (paragraph,) = root.iter(f"{tt}p")
    assert paragraph.attrib == {"begin": "01:02:03.450", "end": "01:02:05.000"}
    assert (paragraph.text, paragraph[0].tag, paragraph[0].tail) == ("a & b", f"{tt}br", "c")
    xml = "{http://www.w3.org/XML/1998/namespace}"
    assert root.attrib[f"{xml}lang"] == "es"
    body, region = root.find(f"{tt}body"), next(root.iter(f"{tt}region"))
    assert body is not None and body.get("region") == region.get(f"{xml}id")


def test_no_cues_are_a_whole_file_in_every_format():
    for name in READ_AGAIN:
        assert read_again(name, FORMATS[name]([])) == []
    assert FORMATS["txt"]([]) == ""


def test_ttml_always_names_a_language():
    mixed = [Cue(0, 1_000, ("a",), "es"), Cue(2_000, 3_000, ("b",), "en")]
    for cues in ([], [Cue(0, 1_000, ("a",))], mixed):
        assert 'xml:lang="und"' in FORMATS["ttml"](cues)
    assert [tag(codes) for codes in ((), ("ja",), ("es", "en"))] == ["und", "ja", "mul"]
