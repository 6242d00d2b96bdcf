import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checkpoint import Checkpoint
from stages.contract import StageHost
from stages.encode import EncodeStage
from stages.messages import CHUNK_SAMPLES, SessionOptions, SoftTokens, Speech
from tests.encoders.helpers import sound

OPTIONS = SessionOptions()
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
    from encoders import LogMel

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
    assert all(m.update for m in out)
    late = Speech(3, 0, SAMPLES, opens=True, closes=True, update=False)
    assert not run(encode, [late])[0].update


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
