import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.models.checkpoint import Checkpoint
from dragoman.stages.contract import StageHost
from dragoman.stages.encode import EncodeStage
from dragoman.stages.messages import CHUNK_SAMPLES, SessionOptions, SoftTokens, Speech
from tests.encoders.helpers import sound
from tests.stages.helpers import together

OPTIONS = SessionOptions(update_chunks=1)
SAMPLES = sound(1, 6 * CHUNK_SAMPLES + 700, seed=1)[0].numpy()


def pieces(cuts: list[int], samples: np.ndarray = SAMPLES, first: int = 0) -> list[Speech]:
    """One segment cut at the given places; it starts at sample ``first`` of the stream."""
    borders = [0, *sorted(cuts), len(samples)]
    spans = list(zip(borders, borders[1:], strict=False))
    return [
        Speech(3, first + a, samples[a:b], opens=i == 0, closes=i == len(spans) - 1)
        for i, (a, b) in enumerate(spans)
    ]


def run(stage: EncodeStage, items: list[Speech], state=None) -> list[SoftTokens]:
    state = state or stage.init_state(OPTIONS)
    out = []
    for item in items:
        (tokens,), state = stage.step(item, state)
        out.append(tokens)
    assert stage.flush(state) == []
    return out


def joined(messages: list[SoftTokens]) -> torch.Tensor:
    return torch.cat([message.tokens for message in messages])


@pytest.fixture(scope="module")
def whole(encode):
    return joined(run(encode, pieces([])))


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, len(SAMPLES)), max_size=8))
def test_any_cutting_gives_the_same_tokens(encode, whole, cuts):
    torch.testing.assert_close(joined(run(encode, pieces(cuts))), whole, atol=1e-5, rtol=0)


def test_equals_the_whole_clip_with_a_chunk_of_silence(tiny_folder, whole):
    checkpoint = Checkpoint.open(str(tiny_folder))
    from dragoman.encoders import LogMel

    padded = torch.from_numpy(np.pad(SAMPLES, (0, CHUNK_SAMPLES)))[None]
    with torch.no_grad():
        features = checkpoint.audio_encoder()(LogMel()(padded))
        expected = checkpoint.embedder("audio").soft(features)[0]
    torch.testing.assert_close(whole, expected, atol=1e-5, rtol=0)


def test_one_token_a_chunk_and_one_more_at_the_end(encode):
    out = run(encode, pieces([CHUNK_SAMPLES * i for i in range(1, 6)], SAMPLES[:-700]))
    assert [len(message.tokens) for message in out] == [1, 1, 1, 1, 1, 2]
    assert out[0].tokens.dtype == torch.float32 and out[0].tokens.shape[1] == 32


def test_the_last_sound_is_heard(encode):
    """A click in the last 90 ms reaches no token without the silence put after it."""
    click = SAMPLES[: 3 * CHUNK_SAMPLES].copy()
    click[-400:] = 0.9
    quiet = joined(run(encode, pieces([], SAMPLES[: 3 * CHUNK_SAMPLES])))
    loud = joined(run(encode, pieces([], click)))
    assert len(quiet) == len(loud) == 4
    torch.testing.assert_close(loud[:3], quiet[:3])
    assert (loud[3] - quiet[3]).abs().max() > 0.01


def test_an_empty_closing_piece(encode):
    at_once = joined(run(encode, pieces([])))
    after = run(encode, pieces([len(SAMPLES)]))
    assert after[-1].closes and after[-1].end == len(SAMPLES)
    torch.testing.assert_close(joined(after), at_once, atol=1e-5, rtol=0)


def test_a_segment_too_short_for_a_frame_still_gives_its_token(encode):
    (only,) = run(encode, pieces([], SAMPLES[:100]))
    assert len(only.tokens) == 1 and torch.isfinite(only.tokens).all()


def test_every_message_says_where_it_belongs(encode):
    out = run(encode, pieces([1_000, 1_000, 9_000], first=50_000))
    assert [m.end - 50_000 for m in out] == [1_000, 1_000, 9_000, len(SAMPLES)]
    assert {m.start for m in out} == {50_000} and {m.segment for m in out} == {3}
    assert [m.opens for m in out] == [True, False, False, False]
    assert [m.closes for m in out] == [False, False, False, True]
    assert not any(m.late for m in out) and out[-1].update
    late = Speech(3, 0, SAMPLES, opens=True, closes=True, late=True)
    assert run(encode, [late])[0].late and run(encode, [late])[0].update, "what closes is updated"


def test_each_segment_starts_afresh(encode, whole):
    state = encode.init_state(OPTIONS)
    for item in pieces([5_000], samples=-2 * SAMPLES):
        _, state = encode.step(item, state)
    again = joined(run(encode, pieces([5_000]), state))
    torch.testing.assert_close(again, whole, atol=1e-5, rtol=0)


def test_a_segment_left_open_is_dropped_when_the_next_opens(encode, whole):
    state = encode.init_state(OPTIONS)
    _, state = encode.step(pieces([5_000])[0], state)
    torch.testing.assert_close(joined(run(encode, pieces([]), state)), whole)


def test_pieces_of_a_segment_that_is_not_open_are_refused(encode):
    first, last = pieces([5_000])
    with pytest.raises(ValueError, match="segment 3 is not open"):
        encode.step(last, encode.init_state(OPTIONS))
    state = encode.init_state(OPTIONS)
    for item in (first, last):
        _, state = encode.step(item, state)
    with pytest.raises(ValueError, match="segment 3 is not open"):
        encode.step(last, state)


def test_read_only_samples_are_taken(encode, whole):
    samples = SAMPLES.copy()
    samples.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(joined(run(encode, pieces([], samples))), whole)


def test_the_callers_samples_are_neither_kept_nor_changed(encode, whole):
    first, last = pieces([5_000], samples=SAMPLES.copy())
    state = encode.init_state(OPTIONS)
    (head,), state = encode.step(first, state)
    first.samples[:] = 9
    (rest,), _ = encode.step(last, state)
    torch.testing.assert_close(joined([head, rest]), whole, atol=1e-5, rtol=0)


def speech(seed: int, cuts: list[int]) -> list[Speech]:
    return pieces(cuts, sound(1, 6 * CHUNK_SAMPLES + 700, seed=seed)[0].numpy(), first=seed * 320)


CUTS = st.lists(st.integers(0, len(SAMPLES)), min_size=1, max_size=8)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(CUTS, min_size=2, max_size=5))
def test_many_streams_together_equal_each_alone(encode, cuts):
    """Whatever each of them has heard when the others are stepped."""
    streams = [speech(seed, cut) for seed, cut in enumerate(cuts)]
    for mine, stream in zip(
        together(encode, streams, [OPTIONS] * len(streams)), streams, strict=True
    ):
        alone = run(encode, stream)
        assert [len(m.tokens) for m in mine] == [len(m.tokens) for m in alone]
        assert [(m.start, m.end, m.opens, m.closes) for m in mine] == [
            (m.start, m.end, m.opens, m.closes) for m in alone
        ]
        torch.testing.assert_close(joined(mine), joined(alone), atol=1e-5, rtol=0)


def test_a_stream_that_closes_beside_one_that_goes_on(encode):
    """Both are fed the same number of samples; only one is ended."""
    ending = pieces([1_473], SAMPLES[: 1_473 + CHUNK_SAMPLES])
    going = pieces([1_473, 1_473 + 2 * CHUNK_SAMPLES])
    for mine, stream in zip(
        together(encode, [ending, going], [OPTIONS] * 2), [ending, going], strict=True
    ):
        alone = run(encode, stream)
        assert [len(m.tokens) for m in mine] == [len(m.tokens) for m in alone]
        torch.testing.assert_close(joined(mine), joined(alone), atol=1e-5, rtol=0)


class Counted:
    """The encoder, which notes how many streams each of its steps was for."""

    def __init__(self, encoder) -> None:
        self._encoder, self.sizes = encoder, []

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def step(self, samples, state):
        self.sizes.append(len(samples))
        return self._encoder.step(samples, state)


def test_segments_that_began_anywhere_share_their_passes(encode, monkeypatch):
    """First pieces of any length in steps of 20 ms, as the pre-roll makes them, then whole chunks:
    after the first, all streams stand alike."""
    counted = Counted(encode.encoder)
    monkeypatch.setattr(encode, "encoder", counted)
    firsts = [4_800 + 320 * n for n in range(8)]
    streams = [
        speech(n, [first + CHUNK_SAMPLES * k for k in range(4)]) for n, first in enumerate(firsts)
    ]
    together(encode, [stream[:-1] for stream in streams], [OPTIONS] * len(streams))
    assert counted.sizes[-3:] == [8, 8, 8]


def test_no_token_is_later_for_what_waits(encode):
    """Token k is there with the sample 92 ms into its own 160 ms, wherever the chunks are cut."""
    for first in (100, 1_472, 1_473, 2_000, 2_560):
        stream = pieces([first + 640 * k for k in range(1, 12)])[:-1]
        found = np.cumsum([len(m.tokens) for m in run(encode, stream)])
        assert list(found) == [max(0, m.end - 1_473 + 2_560) // 2_560 for m in stream]


@pytest.mark.parametrize("apart", [2, 4])
def test_sound_waits_for_the_update_that_asks_for_it(encode, whole, apart):
    """As many tokens come at once as the translate stage takes for an update, then, and all of the
    rest at the end."""
    stream = pieces([CHUNK_SAMPLES * k for k in range(1, 7)])
    messages = run(encode, stream, encode.init_state(SessionOptions(update_chunks=apart)))
    expected = {2: [0, 2, 0, 2, 0, 2, 2], 4: [0, 0, 0, 4, 0, 0, 4]}[apart]
    assert [len(m.tokens) for m in messages] == expected
    torch.testing.assert_close(joined(messages), whole, atol=1e-5, rtol=0)


def test_what_waits_is_there_with_the_next_update(encode):
    """Where an update was left out, the next one has the newest sound; without any, eight tokens'
    sound waits at most."""
    skipped = [0, 1, 2, 5, 6] + list(range(8, 26))
    samples = sound(1, 30 * CHUNK_SAMPLES, seed=3)[0].numpy()
    stream = [
        replace(piece, late=k in skipped)
        for k, piece in enumerate(pieces([CHUNK_SAMPLES * k for k in range(1, 30)], samples))
    ]
    messages = run(encode, stream, encode.init_state(SessionOptions(update_chunks=2)))
    found = [len(m.tokens) for m in messages]
    assert found[:8] == [0, 0, 0, 4, 0, 0, 0, 4]
    assert found[8:26] == [0] * 7 + [8] + [0] * 7 + [8] + [0] * 2
    assert found[26:] == [3, 0, 2, 2]


def test_a_stream_that_fails_in_company_fails_alone(encode, whole):
    good, bad = pieces([4_000]), pieces([4_000])
    wrong = Speech(3, 0, SAMPLES.astype(np.float64), opens=True)
    states = [encode.init_state(OPTIONS) for _ in range(3)]
    first, refused, closed = encode.step_batch([good[0], wrong, bad[1]], states)
    assert isinstance(refused, ValueError) and "expected samples float32 [S]" in str(refused)
    assert isinstance(closed, ValueError) and "not open" in str(closed)
    (rest,), _ = encode.step(good[1], first[1])
    torch.testing.assert_close(joined([*first[0], rest]), whole, atol=1e-5, rtol=0)


def test_a_pass_that_fails_for_all_is_tried_for_each(encode, monkeypatch):
    """As where memory does not suffice for many, or one stream's numbers stop the kernel."""

    class Small(Counted):
        def step(self, samples, state):
            if len(samples) > 1 or float(samples.abs().max()) > 10:
                raise MemoryError("too much at once")
            return super().step(samples, state)

    streams = [speech(seed, [4_000]) for seed in range(3)]
    alone = [run(encode, stream[:1]) for stream in streams]
    monkeypatch.setattr(encode, "encoder", Small(encode.encoder))
    streams[1][0].samples[:] = 11
    results = encode.step_batch(
        [stream[0] for stream in streams], [encode.init_state(OPTIONS) for _ in streams]
    )
    assert isinstance(results[1], MemoryError)
    for n in (0, 2):
        torch.testing.assert_close(joined(results[n][0]), joined(alone[n]), atol=1e-5, rtol=0)


def test_a_message_does_not_carry_its_neighbours(encode):
    streams = [speech(seed, [4_000, 8_000]) for seed in range(4)]
    for messages in together(encode, streams, [OPTIONS] * 4):
        for message in messages:
            size = message.tokens.untyped_storage().nbytes()
            assert size == message.tokens.nbytes


def test_sessions_in_one_host_do_not_mix(encode, whole):
    host = StageHost(encode)
    mine, other = pieces([4_000, 9_000]), pieces([4_000, 9_000], samples=SAMPLES[::-1].copy())
    host.open("a", OPTIONS)
    host.open("b", OPTIONS)
    out = []
    for seq, (a, b) in enumerate(zip(mine, other, strict=True)):
        out += host.step("a", seq, [a])
        host.step("b", seq, [b])
    torch.testing.assert_close(joined(out), whole, atol=1e-5, rtol=0)


def test_a_segment_closes_in_one_pass(encode):
    """Rest, last chunk, the silence behind it and the end go through the weights together."""
    rows = []
    block = encode.encoder.encoder.conformer[0].ffw_layer_start.ffw_layer_1
    hook = block.register_forward_hook(lambda _, given, __: rows.append(given[0].shape[:2]))
    stream = pieces([k * CHUNK_SAMPLES for k in range(1, 6)], SAMPLES[: 6 * CHUNK_SAMPLES])
    try:
        out = run(encode, stream)
    finally:
        hook.remove()
    assert [len(m.tokens) for m in out] == [1, 1, 1, 1, 1, 2]
    assert rows == [(1, 1), *[(1, 4)] * 4, (1, 8)]
