"""Many sessions in one translate stage: they share passes, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.stages.contract import StageHost
from tests.stages.helpers import together
from tests.stages.segments import BRIEF, OPTIONS, PIECES, SEEDS, paced, run, segment, texts


def test_sessions_in_one_host_do_not_mix(stage):
    host = StageHost(stage)
    mine, other = segment([1, 2, 1], seed=1), segment([1, 2, 1], seed=2)
    host.open("a", OPTIONS)
    host.open("b", replace(OPTIONS, language="it"))
    out = []
    for seq, (a, b) in enumerate(zip(mine, other, strict=True)):
        out += host.step("a", seq, [a])
        host.step("b", seq, [b])
    assert texts(out) == texts(run(stage, mine)[0])


@settings(max_examples=15, deadline=None)
@given(
    streams=st.lists(st.tuples(PIECES, st.integers(0, 99)), min_size=2, max_size=4),
    seed=st.sampled_from(SEEDS),
    every=st.integers(1, 2),
)
def test_many_streams_together_say_what_each_says_alone(make, streams, seed, every):
    """Each at another place of its segment, in another language, and with as many passes."""
    stage = make(seed)
    items = [segment(pieces, sound) for pieces, sound in streams]
    options = [
        replace(BRIEF, update_chunks=every, language=language, pad_audio=language == "fr")
        for language, _ in zip(("es", "fr", "it", "es"), streams, strict=False)
    ]
    found = together(stage, list(map(paced, items, options)), options)
    for mine, stream, each in zip(found, items, options, strict=True):
        assert texts(mine) == texts(run(stage, stream, each)[0])


def test_streams_share_their_passes(stage, monkeypatch):
    sizes = []
    answer_together = stage.model.answer_together

    def counted(requests):
        sizes.append(len(requests))
        return answer_together(requests)

    monkeypatch.setattr(stage.model, "answer_together", counted)
    together(stage, [segment([1] * 6, sound) for sound in range(4)], [OPTIONS] * 4)
    assert sizes[0] == 4 and sum(size == 4 for size in sizes) > 12


def test_a_stream_that_fails_in_company_fails_alone(stage):
    good, late = segment([2, 1], seed=1), segment([1, 1])[1]
    state = stage.init_state(OPTIONS)
    (first, refused) = stage.step_batch([good[0], late], [state, stage.init_state(OPTIONS)])
    assert isinstance(refused, ValueError) and "not open" in str(refused)
    out, _ = stage.step(good[1], first[1])
    assert texts([*first[0], *out]) == texts(run(stage, good)[0])
