"""The encoder and the whole chain from samples: the contract, sessions in company, long streams."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from dragoman.encoders import (
    LogMel,
    StreamingAudioEncoder,
    phase_of,
    split_state,
    stack_states,
    state_bytes,
)
from tests.encoders.helpers import TINY, noise, sound, tiny_encoder
from tests.parts import blocks
from tests.streaming import (
    check_lookahead,
    check_rows_apart,
    check_streaming,
    cuts,
    relative_error,
)

CHUNK = 2560
ENCODER = tiny_encoder()
CHAIN = StreamingAudioEncoder(LogMel(TINY.input_feat_size), ENCODER).eval()


@settings(deadline=None, max_examples=25)
@given(lengths=cuts(40), frames=st.integers(0, 120))
def test_encoder_streams(lengths: list[int], frames: int) -> None:
    check_streaming(ENCODER, noise(2, frames, 16), lengths)


@settings(deadline=None, max_examples=25)
@given(lengths=cuts(6000), samples=st.integers(0, 16_000))
def test_chain_streams(lengths: list[int], samples: int) -> None:
    check_streaming(CHAIN, sound(2, samples), lengths)


def test_lookahead() -> None:
    assert (ENCODER.stride, ENCODER.lookahead) == (16, 6)
    check_lookahead(ENCODER, noise(1, 80, 16))
    assert (CHAIN.stride, CHAIN.lookahead) == (CHUNK, 6 * 160 + 512)
    x = sound(1, 4 * CHUNK)
    with torch.no_grad():
        for k in range(4):
            needed = k * CHUNK + CHAIN.lookahead + 1
            y, state = CHAIN.step(x[:, : needed - 1], CHAIN.init_state(1))
            assert y.shape[1] == k
            assert CHAIN.step(x[:, needed - 1 : needed], state)[0].shape[1] == 1


def test_tokens_depend_on_nothing_later() -> None:
    mel = noise(1, 100, 16)
    with torch.no_grad():
        tokens = ENCODER(mel)
        for k in range(5):
            last = 16 * k + 6
            later, at = mel.clone(), mel.clone()
            later[:, last + 1 :] = 30.0
            at[:, last] += 1.0
            assert relative_error(ENCODER(later)[:, : k + 1], tokens[:, : k + 1]) < 1e-6
            assert not torch.allclose(ENCODER(at)[:, k], tokens[:, k], atol=1e-5)


def test_tokens_are_every_fourth_frame() -> None:
    mel = noise(2, 90, 16)
    frames = ENCODER.frames(mel)
    assert frames.shape == (2, 23, 16)
    assert torch.equal(ENCODER(mel), frames[:, ::4])


def test_rows_do_not_meet() -> None:
    check_rows_apart(CHAIN, sound(1, 9000), sound(1, 9000, seed=1) * 50, [CHUNK, 1, 0, 3000])


def test_sessions_of_different_ages_step_together() -> None:
    ages = [1, 2, 5, 20]
    sounds = [sound(1, (age + 4) * CHUNK, seed=age) for age in ages]
    states = []
    with torch.no_grad():
        for age, x in zip(ages, sounds, strict=True):
            _, state = CHAIN.step(x[:, : age * CHUNK], CHAIN.init_state(1))
            states.append(state)
        given_out = [[] for _ in ages]
        for n in range(4):
            batch = [
                x[:, (age + n) * CHUNK :][:, :CHUNK] for age, x in zip(ages, sounds, strict=True)
            ]
            y, state = CHAIN.step(torch.cat(batch), stack_states(states))
            states = split_state(state)
            for out, row in zip(given_out, y, strict=True):
                out.append(row)
        for age, x, out in zip(ages, sounds, given_out, strict=True):
            alone = CHAIN(x)[0, age : age + 4]
            assert relative_error(torch.cat(out), alone) < 1e-5
        last = [CHAIN.flush(state) for state in states]
        assert relative_error(CHAIN.flush(stack_states(states)), torch.cat(last)) < 1e-5


def test_sessions_in_other_phases_do_not_stack() -> None:
    fresh = CHAIN.init_state(1)
    _, older = CHAIN.step(sound(1, CHUNK), CHAIN.init_state(1))
    assert phase_of(fresh) != phase_of(older)
    with pytest.raises(ValueError, match="2 phases among 3 states"):
        stack_states([older, fresh, older])
    with pytest.raises(ValueError, match="at least one"):
        stack_states([])


def test_split_states_share_no_memory() -> None:
    _, state = CHAIN.step(sound(2, CHUNK), CHAIN.init_state(2))
    first, second = split_state(state)
    assert state_bytes(first) + state_bytes(second) == state_bytes(state)
    kept = second.encoder.blocks[0].attention.keys.clone()
    state.encoder.blocks[0].attention.keys.zero_()
    assert torch.equal(second.encoder.blocks[0].attention.keys, kept)


@pytest.mark.slow
def test_ten_minutes_in_one_stream() -> None:
    """A token a chunk from the first on; the state and the work of a step stay as they were."""
    chunks = 3750
    x = sound(1, chunks * CHUNK)
    config = TINY.from_dict({**TINY.to_dict(), "conf_num_hidden_layers": 1})
    chain = StreamingAudioEncoder(LogMel(config.input_feat_size), tiny_encoder(config))
    tokens, sizes, work = [], set(), set()
    with torch.inference_mode():
        state = chain.init_state(1)
        for n, chunk in enumerate(x.split(CHUNK, dim=1)):
            if n in (6, chunks - 1):
                with FlopCounterMode(display=False) as counter:
                    y, state = chain.step(chunk, state)
                work.add(counter.get_total_flops())
            else:
                y, state = chain.step(chunk, state)
            tokens.append(y)
            if n >= 1:
                sizes.add(state_bytes(state))
        assert [y.shape[1] for y in tokens] == [1] * chunks
        assert len(sizes) == 1 and len(work) == 1 and work != {0}
        streamed = torch.cat([*tokens, chain.flush(state)], dim=1)
        assert relative_error(streamed, chain(x)) < 1e-5


@pytest.mark.parametrize("start", [8, 40, 200])
def test_gradients_stay_finite_when_the_start_is_masked(start: int) -> None:
    config = TINY.from_dict({**TINY.to_dict(), "conf_num_hidden_layers": 12})
    encoder = tiny_encoder(config).train()
    mel = noise(2, 200, 16) - 4.0
    mel[0, :start] = 0.0
    encoder.frames(mel).pow(2).mean().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    gradient = blocks(encoder)[0].ffw_layer_start.ffw_layer_1.weight.grad
    assert gradient is not None and gradient.abs().max() > 0


def test_padded_clips_share_a_batch() -> None:
    long, short = noise(1, 150, 16), noise(1, 70, 16, seed=1)
    batch = torch.cat([long, functional.pad(short, (0, 0, 0, 80))])
    with torch.no_grad():
        together, alone = ENCODER.frames(batch)[1:, :16], ENCODER.frames(short)[:, :16]
    assert relative_error(together, alone) < 1e-5


def test_bfloat16_weights_keep_statistics_exact() -> None:
    mel = noise(1, 100, 16)
    half = tiny_encoder().to(torch.bfloat16)
    with torch.no_grad():
        tokens, state = half.step(mel, half.init_state(1))
        expected = ENCODER.step(mel, ENCODER.init_state(1))[0]
    assert tokens.dtype == torch.bfloat16
    assert state.subsample.convs[0].norm.total.dtype == torch.float64
    assert torch.cosine_similarity(tokens.float(), expected, dim=-1).min() > 0.99


@pytest.mark.parametrize("samples", [0, 1, 512, 513])
def test_clips_of_half_precision_may_be_shorter_than_a_frame(samples: int) -> None:
    chain = StreamingAudioEncoder(LogMel(TINY.input_feat_size), tiny_encoder().bfloat16())
    tokens = chain(sound(2, samples))
    assert tokens.dtype == torch.bfloat16
    assert tokens.shape == (2, int(samples > 512), TINY.hidden_size)


def test_clips_of_other_lengths_together_equal_each_alone() -> None:
    """1, 3.7, 12 and 29.9 s at once, padded at the end: the last tokens too."""
    lengths = [16_000, 59_200, 192_000, 478_400]
    clips = [sound(1, samples, seed=samples) for samples in lengths]
    mels = [LogMel(TINY.input_feat_size)(clip) for clip in clips]
    longest = max(mel.shape[1] for mel in mels)
    padded = [functional.pad(mel, (0, 0, 0, longest - mel.shape[1])) for mel in mels]
    with torch.no_grad():
        together = ENCODER(torch.cat(padded))
        for row, mel in zip(together, mels, strict=True):
            # The last token of a clip whose lookahead reaches past its end sees the padding.
            whole = (mel.shape[1] - ENCODER.lookahead - 1) // ENCODER.stride + 1
            assert relative_error(row[:whole], ENCODER(mel)[0, :whole]) < 1e-5


@pytest.mark.parametrize("mels", range(16))
def test_the_end_takes_one_pass_over_frames_that_are_heard(mels: int) -> None:
    """Of the last frames, those behind the last token reach nothing and are left out."""
    rows: list[int] = []
    hooks = [
        block.ffw_layer_start.ffw_layer_1.register_forward_hook(
            lambda _, given, __: rows.append(given[0].shape[1])
        )
        for block in blocks(ENCODER)
    ]
    mel = noise(1, 39 + 32 + mels, 16)
    try:
        with torch.no_grad():
            _, state = ENCODER.step(mel[:, :39], ENCODER.init_state(1))
            assert rows == [9, 9]
            last = ENCODER.finish(mel[:, 39:], state)
    finally:
        for hook in hooks:
            hook.remove()
    tokens = last.shape[1]
    assert 3 + tokens == -(-mel.shape[1] // 16)
    assert rows[2:] == [4 * tokens, 4 * tokens]
    with torch.no_grad():
        assert relative_error(last, ENCODER(mel)[:, 3:]) < 1e-5


def test_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"mel frames \[B, T, 16\]; got \[1, 50, 128\]"):
        ENCODER(noise(1, 50, 128))
    with pytest.raises(ValueError, match="front end of 128"):
        StreamingAudioEncoder(LogMel(), ENCODER)
