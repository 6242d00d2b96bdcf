"""Borders of cues near a shot change keep to it, unless that costs reading time."""

from dragoman.pipeline.formats import Cue
from dragoman.pipeline.judging import Standard, faults, mended
from dragoman.pipeline.rules import Rules, characters
from dragoman.pipeline.snapping import snapped

RULES = Rules()
CUT_S = 10.04
CUT_MS = 10_040


def cue(start: int, end: int, text: str = "Hola.") -> Cue:
    return Cue(start, end, (text,))


def times(*cues: Cue, changes=(CUT_S,)) -> list[tuple[int, int]]:
    return [(c.start_ms, c.end_ms) for c in snapped(cues, changes, RULES, characters)]


def test_what_begins_near_a_cut_begins_with_it():
    assert times(cue(10_100, 12_000)) == [(10_040, 12_000)]
    assert times(cue(9_800, 12_000)) == [(10_040, 12_000)]
    assert times(cue(9_740, 12_000)) == [(9_740, 12_000)], "8 frames are far"
    assert times(cue(10_340, 12_000)) == [(10_340, 12_000)]


def test_what_ends_near_a_cut_ends_two_frames_before_it():
    assert times(cue(8_000, 10_200)) == [(8_000, 9_950)]
    assert times(cue(8_000, 9_800)) == [(8_000, 9_950)]
    assert times(cue(8_000, 10_400)) == [(8_000, 10_400)]


def test_two_cues_that_meet_at_a_cut_are_parted_by_it():
    assert times(cue(8_000, 10_110), cue(10_200, 12_000)) == [(8_000, 9_950), (10_040, 12_000)]


def test_reading_time_comes_first():
    long = "a" * 36  # 2.12 s
    assert times(cue(7_900, 10_050, long)) == [(7_900, 10_540)], "it ends well after the cut"
    near = [cue(7_900, 10_050, long), cue(10_400, 12_000)]
    assert times(*near) == [(7_900, 10_050), (10_400, 12_000)], "there is no room"
    assert times(cue(9_900, 11_000)) == [(9_900, 11_000)], "of a second none can be spared"


def test_a_cue_that_gives_way_must_be_readable_too():
    long = "a" * 34  # 2 s
    both = [cue(8_000, 10_060, long), cue(10_200, 12_000)]
    assert times(*both) == [(8_000, 10_060), (10_200, 12_000)]


def test_without_cuts_nothing_is_moved():
    assert times(cue(8_000, 10_060), changes=()) == [(8_000, 10_060)]
    assert times(changes=(CUT_S,)) == []


def test_check_finds_what_is_beside_a_cut_and_mends_it():
    standard = Standard(RULES, ("es",), (CUT_S,))
    beside = [cue(8_000, 10_140), cue(10_240, 12_000)]
    found = [(fault.cue, fault.what, fault.got) for fault in faults(beside, standard)]
    assert found == [
        (1, "shot", "an end 0.100 s after the shot change at 10.040 s"),
        (2, "shot", "a start 0.200 s after the shot change at 10.040 s"),
    ]
    assert faults(beside, Standard(RULES, ("es",))) == []
    fixed = mended(beside, standard)
    assert [(at, c.start_ms, c.end_ms) for at, c in fixed] == [
        (0, 8_000, 9_950),
        (1, 10_040, 12_000),
    ]
    assert faults([c for _, c in fixed], standard) == []
    gone = faults([cue(8_000, 10_040)], standard)
    assert [fault.allowed for fault in gone] == [
        "2 frames before it, or more than 7 frames from it"
    ]
