import os
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import pysubs2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.errors import UsageError
from dragoman.pipeline.rules import LINE_CHARS, Rules, characters
from dragoman.pipeline.subtitles import RULES, Cue, cues, write
from dragoman.stages.messages import Caption, Text

Kind = Literal["partial", "final"]
SPEECH = (
    "Buenos días a todos y bienvenidos a esta conferencia. Hoy vamos a hablar de la traducción "
    "simultánea, de su historia, y de los problemas que todavía no hemos resuelto. ¿Por dónde "
    "empezamos? Quizá por el principio."
)
TRANSLATION = (
    "Good morning everyone and welcome to this conference. Today we are going to talk about "
    "simultaneous translation, its history, and the problems that we have not solved yet. Where "
    "do we start? Perhaps at the beginning."
)


def caption(
    start: int, end: int, transcript: str, translation: str = "", kind: Kind = "final"
) -> Caption:
    """Times in milliseconds."""
    return Caption(kind, 0, start * 16, end * 16, "es", "en", Text(transcript), Text(translation))


words = st.text(st.sampled_from("abcñé.,?!'’"), min_size=1, max_size=12) | st.just("x" * 50)
texts = st.lists(words, max_size=60).map(" ".join)


@st.composite
def streams(draw) -> list[Caption]:
    """Captions that do not overlap, as segments never do."""
    out, at = [], 0
    for _ in range(draw(st.integers(0, 4))):
        start = at + draw(st.integers(0, 5_000))
        at = start + draw(st.integers(200, 28_000))
        out.append(caption(start, at, draw(texts), draw(texts)))
    return out


def check_layout(found: list[Cue]) -> None:
    for cue in found:
        assert 1 <= len(cue.lines) <= 2
        assert cue.start_ms < cue.end_ms <= cue.start_ms + RULES.longest_ms
        for line in cue.lines:
            assert line == " ".join(line.split()) != ""
            assert len(line) <= LINE_CHARS or " " not in line
    assert all(a.end_ms <= b.start_ms for a, b in pairwise(found))


@given(streams(), st.sampled_from(["transcript", "translation"]))
@settings(deadline=None)
def test_one_language(captions, which):
    found = cues(captions, which)
    check_layout(found)
    said = " ".join(getattr(c, which).whole for c in captions).split()
    assert " ".join(line for cue in found for line in cue.lines).split() == said
    if found:
        assert found[0].start_ms >= captions[0].start // 16 - 9


@given(streams())
@settings(deadline=None)
def test_both_languages(captions):
    """Marks on the words of either language tell them apart again."""
    marked = [
        caption(
            c.start // 16,
            c.end // 16,
            " ".join(f"a{w}"[:LINE_CHARS] for w in c.transcript.whole.split()),
            " ".join(f"Z{w}"[:LINE_CHARS] for w in c.translation.whole.split()),
        )
        for c in captions
    ]
    found = cues(marked, "transcript-above")
    check_layout(found)
    shown = [word for cue in found for line in cue.lines for word in line.split()]
    for mark, which in (("a", "transcript"), ("Z", "translation")):
        said = " ".join(getattr(c, which).whole for c in marked).split()
        assert [word for word in shown if word.startswith(mark)] == said
    for cue in found:
        marks = [{word[0] for word in line.split()} for line in cue.lines]
        assert all(len(mark) == 1 for mark in marks)
        assert marks != [{"Z"}, {"a"}]


@given(streams(), st.sampled_from(["transcript", "translation", "transcript-above"]))
@settings(deadline=None)
def test_every_cue_can_be_read_where_there_is_room(captions, which):
    """Far apart, all keep to the rules."""
    found = cues(_apart(captions), which)
    for cue in found:
        bilingual = which == "transcript-above" and len(cue.lines) == 2
        needed = RULES.needed_ms(characters(cue.lines, bilingual))
        assert cue.end_ms - cue.start_ms >= needed
    assert all(b.start_ms - a.end_ms >= RULES.gap_ms for a, b in pairwise(found))


def _apart(captions: list[Caption]) -> list[Caption]:
    shifted = [(caption, at * 600_000 * 16) for at, caption in enumerate(captions)]
    return [replace(c, start=c.start + by, end=c.end + by) for c, by in shifted]


def test_overlapping_captions_give_cues_that_do_not():
    captions = [caption(0, 5_000, SPEECH), caption(1_000, 1_100, "No."), caption(0, 9_000, "Sí.")]
    check_layout(cues(captions))


def test_breaks_fall_on_sentences_and_clauses():
    found = cues([caption(0, 14_000, SPEECH)])
    assert [cue.lines for cue in found] == [
        ("Buenos días a todos", "y bienvenidos a esta conferencia."),
        ("Hoy vamos a hablar de la traducción", "simultánea, de su historia,"),
        ("y de los problemas", "que todavía no hemos resuelto."),
        ("¿Por dónde empezamos?", "Quizá por el principio."),
    ]
    assert (found[0].start_ms, found[-1].end_ms) == (0, 14_000)
    assert all(b.start_ms - a.end_ms == 90 for a, b in pairwise(found))


def test_time_is_shared_by_characters():
    first, second = cues([caption(0, 9_000, f"{'a' * 40} {'b' * 39}. {'c' * 39}.")])
    assert first.lines == ("a" * 40, "b" * 39 + ".")
    assert abs(first.end_ms - 6_000) <= 100
    assert second.end_ms == 9_000


def test_bilingual_cues_go_in_step():
    found = cues([caption(0, 14_000, SPEECH, TRANSLATION)], "transcript-above")
    pairs = [cue.lines for cue in found]
    assert ("¿Por dónde empezamos?", "Where do we start?") in pairs
    assert pairs[0] == ("Buenos días a todos", "Good morning everyone")
    assert pairs[1] == ("y bienvenidos a esta conferencia.", "and welcome to this conference.")
    assert all(len(pair) == 2 for pair in pairs)


def test_either_language_may_stand_above():
    captions = [caption(0, 14_000, SPEECH, TRANSLATION), caption(20_000, 22_000, "Adiós.", "Bye.")]
    above, below = (cues(captions, which) for which in ("transcript-above", "translation-above"))
    assert [cue.lines for cue in below] == [cue.lines[::-1] for cue in above]
    assert below[-1].lines == ("Bye.", "Adiós.")


def test_a_short_pair_is_one_cue():
    said = caption(500, 2_500, "Hola. ¿Qué tal?", "Hello. How are you?")
    (cue,) = cues([said], "transcript-above")
    assert cue == Cue(500, 2_500, ("Hola. ¿Qué tal?", "Hello. How are you?"))


def test_without_a_translation_both_lines_are_the_transcripts():
    found = cues([caption(0, 5_000, SPEECH[:54])], "transcript-above")
    assert found[0].lines == ("Buenos días a todos", "y bienvenidos a esta conferencia.")


def test_partial_and_empty_captions_yield_nothing():
    captions = [
        caption(0, 900, "Ho", kind="partial"),
        caption(0, 1_000, "Hola"),
        caption(1_100, 1_500, "  \n "),
    ]
    (cue,) = cues(captions)
    assert cue.lines == ("Hola",)
    assert cues([captions[0], captions[2]]) == []


def test_a_short_segment_is_shown_for_a_second_but_never_into_the_next():
    long = "Bien, y ahora seguimos con la segunda parte de la conferencia de hoy, sin una pausa."
    found = cues(
        [caption(0, 300, "Sí."), caption(5_000, 5_300, "No."), caption(5_600, 9_000, long)]
    )
    assert [(cue.start_ms, cue.end_ms) for cue in found[:2]] == [(0, 1_000), (5_000, 5_510)]
    assert found[2].start_ms == 5_600


def test_what_cannot_be_read_before_the_next_begins_is_shown_with_it():
    (cue,) = cues([caption(5_000, 5_300, "No."), caption(5_600, 7_000, "Bien.")])
    assert cue == Cue(5_000, 7_000, ("No. Bien.",))
    apart = cues([caption(5_000, 5_300, "No."), caption(6_100, 7_000, "Bien.")])
    assert [c.lines for c in apart] == [("No.",), ("Bien.",)]
    japanese = [caption(5_000, 5_300, "はい。"), caption(5_600, 7_000, "そうです。")]
    (cue,) = cues([replace(c, language="ja") for c in japanese])
    assert cue.lines == ("はい。そうです。",)


def test_a_sentence_is_torn_only_where_it_fits_no_cue():
    short = "Empezamos ya, amigos míos."
    long = "Hoy hablamos de la historia de la traducción simultánea del mundo."
    found = cues([caption(0, 12_000, f"{short} {long} {long}")])
    assert [" ".join(cue.lines) for cue in found] == [short, long, long]


def test_a_slower_reader_gets_more_time():
    text = "x" * 34
    (usual,), (slow,) = (cues([caption(0, 500, text)], rules=r) for r in (RULES, Rules(2, 10.0)))
    assert (usual.end_ms, slow.end_ms) == (2_000, 3_400)


@pytest.mark.parametrize("figures", [{"chars_per_second": 22}, {"chars_per_second": 0}, {"fps": 0}])
def test_rules_that_make_no_sense_are_refused(figures):
    with pytest.raises(UsageError, match="give more than 0"):
        Rules(**figures)


def test_a_torn_word_is_no_word():
    long = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
    found = cues([caption(0, 4_000, f"Die {long} schweigt.")])
    assert [line for cue in found for line in cue.lines] == ["Die", long, "schweigt."]


@pytest.mark.parametrize("name, head", [("a.srt", "1\n00:00:00,500 -->"), ("a.vtt", "WEBVTT\n\n")])
def test_files_read_back(tmp_path, name, head):
    laid = cues([caption(500, 14_500, SPEECH, TRANSLATION)], "transcript-above")
    path = tmp_path / name
    write(laid, path)
    assert path.read_text(encoding="utf-8").startswith(head)
    assert "\r" not in path.read_bytes().decode()
    read = pysubs2.load(str(path), encoding="utf-8")
    assert [(e.start, e.end, tuple(e.plaintext.split("\n"))) for e in read] == [
        (cue.start_ms, cue.end_ms, cue.lines) for cue in laid
    ]


def test_text_is_never_taken_for_markup(tmp_path):
    line = r"{a} <b> & \N --> c"
    write([Cue(0, 1_000, (line,))], tmp_path / "a.srt")
    written = (tmp_path / "a.srt").read_text(encoding="utf-8")
    assert "{a} <\u200eb> & ⧵N --\u200e> c" in written
    write([Cue(0, 1_000, (line,))], tmp_path / "a.vtt")
    assert "{a} &lt;b&gt; &amp; ⧵N --&gt; c" in (tmp_path / "a.vtt").read_text(encoding="utf-8")


def test_no_cues_make_a_valid_empty_file(tmp_path):
    for name in ("a.srt", "a.VTT"):
        write([], tmp_path / name)
        assert len(pysubs2.load(str(tmp_path / name), format_=name[-3:].lower())) == 0


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.srt"
    write([Cue(0, 1_000, ("alt",))], path)
    before = path.read_text()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write([Cue(0, 1_000, ("neu",))], path)
    assert path.read_text() == before
    assert os.listdir(tmp_path) == ["a.srt"]


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="use one of .srt, .vtt"):
        write([], tmp_path / "a.doc")
    assert os.listdir(tmp_path) == []
