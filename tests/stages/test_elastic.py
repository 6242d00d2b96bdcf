from dataclasses import replace

import pytest

from dragoman.decoder import Slice
from dragoman.errors import SizeError
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.sizes import E4B, ladder, parse
from dragoman.models.slicing import write_slice
from dragoman.stages.messages import SessionOptions
from dragoman.stages.policies.elastic import AUTO, Pressure, Sizes
from dragoman.stages.translate import TranslateStage
from tests import nano_like
from tests.stages.segments import NEVER_EARLY, OPTIONS, run, segment, texts

PIECES = [2, 3, 0, 1, 2]


def sizes_of(captions) -> list[tuple[str, str]]:
    return [(caption.kind, caption.size) for caption in captions]


def half(stage: TranslateStage) -> Slice:
    return parse("half", stage.model.config)


# What a session runs.


def test_a_session_runs_the_size_it_asks_for(stage):
    whole, _ = run(stage, segment(PIECES))
    small, states = run(stage, segment(PIECES), replace(OPTIONS, size="half"))
    assert {caption.size for caption in small} == {"half"}
    assert {caption.size for caption in whole} == {"full"}
    assert all(state.cache.size == half(stage) for state in states)
    assert texts(small) != texts(whole)
    again, _ = run(stage, segment(PIECES))
    assert texts(again) == texts(whole)


def test_a_size_gives_what_the_standalone_model_of_that_size_gives(stage, tmp_path):
    folder = nano_like.make(tmp_path, 7)
    write_slice(Checkpoint.open(str(folder)), half(stage), tmp_path / "standalone")
    alone = TranslateStage.load(str(tmp_path / "standalone"))
    expected, _ = run(alone, segment(PIECES))
    found, _ = run(stage, segment(PIECES), replace(OPTIONS, size="half"))
    assert texts(found) == texts(expected)
    assert found


def test_a_draft_runs_small_and_the_final_caption_whole(stage):
    captions, states = run(stage, segment(PIECES), replace(OPTIONS, draft_size="half"))
    assert sizes_of(captions)[-1] == ("final", "full")
    assert set(sizes_of(captions)[:-1]) == {("partial", "half")}
    drafts, _ = run(stage, segment(PIECES), replace(OPTIONS, size="half"))
    assert texts(captions)[:-1] == texts(drafts)[:-1]
    assert states[-1].cache.length == states[-2].cache.length + PIECES[-1]


def test_the_final_caption_hears_at_its_own_size_all_that_was_drafted(stage):
    """Without partial captions nothing is committed early: the draft's size does not matter."""
    expected, _ = run(stage, segment(PIECES), NEVER_EARLY)
    found, _ = run(stage, segment(PIECES), replace(NEVER_EARLY, draft_size="half"))
    assert texts(found) == texts(expected)


def test_a_segment_in_one_piece_has_no_draft(stage):
    (item,) = segment([5])
    captions, states = run(stage, [item], replace(OPTIONS, draft_size="half"))
    assert sizes_of(captions) == [("final", "full")]
    assert states[0].again.size is None


@pytest.mark.parametrize("field", ["size", "draft_size"])
def test_an_unknown_size_is_refused_when_the_session_opens(stage, field):
    with pytest.raises(SizeError, match="choose full, half"):
        stage.init_state(replace(OPTIONS, **{field: "E9B"}))


# Which one keeps up.


def lagging(stage, hurried: list[float]) -> list[str]:
    """The sizes of segments, of which these shares of the pieces came late."""
    state, found = stage.init_state(replace(OPTIONS, size=AUTO)), []
    for share in hurried:
        for i, item in enumerate(segment([1] * 10)):
            out, state = stage.step(replace(item, late=i < share * 10), state)
        found.append(out[-1].size)
    return found


def test_auto_goes_down_after_a_segment_that_lagged_and_up_after_one_that_did_not(stage):
    found = lagging(stage, [0, 0.5, 0.1, 0, 0])
    assert found == ["full", "full", "half", "half", "full"]


def test_auto_stays_at_the_smallest_and_at_the_largest():
    config = SessionOptions(size=AUTO)
    steps = Sizes.of(config, E4B)
    pressure = Pressure()
    assert pressure.next_segment(steps) == steps.steps[0]
    for _ in range(5):
        for _ in range(4):
            pressure.note(True)
        chosen = pressure.next_segment(steps)
    assert chosen == steps.steps[-1]


def test_the_ladder_of_a_whole_e4b_ends_with_e2b():
    names = [parse(name, E4B) for name in ("E4B", "E2.98B-layer", "E2B")]
    assert list(ladder(E4B)) == names
    small = parse("E2B", E4B).config(E4B)
    assert ladder(small) == (Slice.whole(small), parse("half", small))
