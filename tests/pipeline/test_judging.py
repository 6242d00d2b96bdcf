"""Faults are found one by one; mended cues have none that times and line breaks can help."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.errors import LanguageError
from dragoman.pipeline.formats import Cue
from dragoman.pipeline.judging import Standard, faults, mended
from dragoman.pipeline.rules import Rules
from dragoman.pipeline.subtitles import cues as laid_out
from tests.pipeline.test_subtitles import SPEECH, TRANSLATION, caption

GOOD = [Cue(1_000, 3_000, ("Buenos días.",)), Cue(3_090, 5_000, ("¿Qué tal?", "Bien."))]
STANDARD = Standard()


def what(cues, standard=STANDARD) -> list[tuple[int, str]]:
    return [(fault.cue, fault.what) for fault in faults(cues, standard)]


def test_good_cues_have_no_faults():
    assert what(GOOD) == []
    assert what([]) == []


@pytest.mark.parametrize(
    ("cue", "name", "got", "allowed"),
    [
        (Cue(9_000, 11_000, (" ", "")), "empty", "no text", "some text"),
        (Cue(9_000, 8_000, ("No.",)), "times", "an end 1.000 s before the start", "one after it"),
        (Cue(9_000, 9_999, ("No.",)), "short", "0.999 s", "at least 1.000 s"),
        (Cue(9_000, 16_001, ("No.",)), "long", "7.001 s", "at most 7.000 s"),
        (Cue(9_000, 12_000, ("a", "b", "c")), "lines", "3 lines", "at most 2"),
        (Cue(9_000, 13_000, ("x" * 43,)), "width", "43 columns in line 1", "42"),
        (Cue(9_000, 10_000, ("x" * 18,)), "speed", "18.0 characters a second", "at most 17"),
        (Cue(4_900, 7_000, ("No.",)), "overlap", "0.100 s together with cue 2", "none"),
        (Cue(5_082, 7_000, ("No.",)), "gap", "0.082 s after cue 2", "at least 0.083 s"),
        (Cue(3_089, 7_000, ("No.",)), "order", "a start 0.001 s before that of cue 2", "the order"),
    ],
)
def test_each_fault_alone(cue, name, got, allowed):
    (fault,) = faults([*GOOD, cue], STANDARD)
    assert (fault.cue, fault.what, fault.got) == (3, name, got)
    assert fault.allowed.startswith(allowed)


def test_rules_and_languages_are_asked_for():
    fast = [Cue(0, 1_000, ("x" * 20,))]
    assert what(fast) == [(1, "speed")] and what(fast, Standard(Rules(2, 20.0))) == []
    near = [Cue(0, 2_000, ("a",)), Cue(2_070, 4_000, ("b",))]
    assert what(near) == [(2, "gap")] and what(near, Standard(Rules(fps=30))) == []
    wide = [Cue(0, 7_000, ("語" * 14, "x" * 30))]
    assert what(wide, Standard(codes=("ja",))) == [(1, "width"), (1, "width")]
    assert what(wide, Standard(codes=("ja", "en"))) == [(1, "width")]
    both = [Cue(0, 2_000, ("x" * 30, "y" * 30))]
    assert what(both) == [(1, "speed")] and what(both, Standard(codes=("es", "en"))) == []
    with pytest.raises(LanguageError):
        Standard(codes=("xx",))


@pytest.mark.parametrize(
    ("which", "codes"),
    [("transcript", ("es",)), ("translation", ("en",)), ("transcript-above", ("es", "en"))],
)
def test_what_we_write_has_no_faults(which, codes):
    captions = [caption(0, 14_000, SPEECH, TRANSLATION), caption(15_000, 15_300, "Sí.", "Yes.")]
    assert faults(laid_out(captions, which), Standard(codes=codes)) == []


BAD = [
    Cue(9_000, 9_200, ("Tarde.",)),
    Cue(0, 2_100, ("Hola.",)),
    Cue(2_000, 12_000, (SPEECH[:54],)),
    Cue(4_000, 4_500, ("",)),
    Cue(20_000, 19_000, ("Al revés.",)),
    Cue(24_000, 26_000, ("- ¿Quién es?", "- Yo.")),
    Cue(26_000, 28_000, ("<i>", "&", "40")),
]


def test_mending_keeps_the_words_and_leaves_no_fault():
    found = mended(BAD, STANDARD)
    assert what([cue for _, cue in found]) == []
    order = [1, 2, 0, 4, 5, 6]
    assert list(dict.fromkeys(at for at, _ in found)) == order
    said = [word for at in order for line in BAD[at].lines for word in line.split()]
    assert [word for _, cue in found for line in cue.lines for word in line.split()] == said
    assert (5, Cue(24_000, 25_910, BAD[5].lines)) in found


def test_good_cues_are_not_touched():
    assert mended(GOOD, STANDARD) == list(enumerate(GOOD))


@pytest.mark.parametrize("codes", [(), ("he",)])
def test_hebrew_that_is_broken_anew_runs_from_right_to_left(codes):
    words = "שלום לכולם, היום נדבר על הרכבת ועל העיר החדשה שלנו."
    [(_, cue)] = mended([Cue(0, 4_000, (words,))], Standard(codes=codes))
    assert len(cue.lines) == 2 and " ".join(cue.lines) == words


def test_two_that_begin_together_become_one():
    found = mended([Cue(0, 2_000, ("Hola.",)), Cue(100, 2_500, ("Adiós.",))], STANDARD)
    assert found == [(0, Cue(0, 2_500, ("Hola.", "Adiós.")))]


def test_speech_that_is_too_fast_stays_a_fault():
    cues = [Cue(at * 1_000, at * 1_000 + 900, ("x" * 40, "y" * 40)) for at in range(3)]
    left = what([cue for _, cue in mended(cues, STANDARD)])
    assert {name for _, name in left} == {"speed", "short"}


texts = st.lists(st.sampled_from(["", "Sí.", "x" * 60, SPEECH, "a b c", "- No."]), max_size=4)
times = st.tuples(st.integers(0, 60_000), st.integers(-500, 9_000))


@given(st.lists(st.tuples(times, texts), max_size=6))
@settings(deadline=None, max_examples=60)
def test_mended_files_are_in_order_and_lose_no_word(drawn):
    cues = [Cue(start, start + length, tuple(lines)) for (start, length), lines in drawn]
    found = [cue for _, cue in mended(cues, STANDARD)]
    assert all(cue.start_ms < cue.end_ms for cue in found)
    assert all(a.end_ms <= b.start_ms for a, b in pairwise(found))
    words = sorted(word for cue in cues for line in cue.lines for word in line.split())
    assert sorted(word for cue in found for line in cue.lines for word in line.split()) == words
