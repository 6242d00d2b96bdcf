"""Subsampling, attention and a Conformer block: in pieces, in time, in company."""

from __future__ import annotations

import copy
from typing import TypeVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dragoman.encoders import AudioConfig
from dragoman.encoders.attention import LocalAttention
from dragoman.encoders.conformer import BlockState, ConformerBlock
from dragoman.encoders.norms import CumulativeGroupNorm, RMSNorm
from dragoman.encoders.streaming import StreamingLayer
from dragoman.encoders.subsample import SubSampleConvProjection
from tests.encoders.helpers import TINY, noise, randomize
from tests.streaming import (
    check_lookahead,
    check_rows_apart,
    check_streaming,
    cuts,
    relative_error,
)

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def ready(layer: ModuleT) -> ModuleT:
    randomize(layer)
    return layer.eval()


SUBSAMPLE = ready(SubSampleConvProjection(TINY))
BLOCK = ready(ConformerBlock(TINY))
ODD = AudioConfig(
    hidden_size=16,
    conf_num_attention_heads=4,
    conf_attention_context_left=6,
    conf_attention_logit_cap=3.0,
    conf_conv_kernel_size=4,
    conf_residual_weight=0.7,
    gradient_clipping=1.5,
    rms_norm_eps=1e-2,
)
LAYERS = [(SUBSAMPLE, 16, 4, 6), (BLOCK, 16, 1, 0)]


def tensors(state: BlockState) -> list[torch.Tensor]:
    kept = state.attention
    return [kept.keys, kept.values, kept.seen, state.conv]


@pytest.mark.parametrize("layer", [SUBSAMPLE, BLOCK], ids=["subsample", "block"])
@settings(deadline=None, max_examples=40)
@given(lengths=cuts(20), frames=st.integers(0, 60))
def test_streams(layer: StreamingLayer, lengths: list[int], frames: int) -> None:
    check_streaming(layer, noise(2, frames, 16), lengths)


@pytest.mark.parametrize(("layer", "width", "stride", "lookahead"), LAYERS)
def test_lookahead(layer: StreamingLayer, width: int, stride: int, lookahead: int) -> None:
    assert (layer.stride, layer.lookahead) == (stride, lookahead)
    check_lookahead(layer, noise(1, 50, width))


@pytest.mark.parametrize("layer", [SUBSAMPLE, BLOCK], ids=["subsample", "block"])
def test_rows_do_not_meet(layer: StreamingLayer) -> None:
    check_rows_apart(layer, noise(1, 40, 16), noise(1, 40, 16, seed=1, scale=1e3), [3, 0, 1, 20])


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 4, 5, 8, 9])
def test_subsampling_rounds_up(frames: int) -> None:
    assert SUBSAMPLE(noise(1, frames, 16)).shape == (1, -(-frames // 4), 16)


def test_end_of_input_is_not_silence() -> None:
    x = noise(1, 9, 16) + 4.0
    with torch.no_grad():
        ended, fed = SUBSAMPLE(x), SUBSAMPLE(torch.cat([x, torch.zeros(1, 8, 16)], dim=1))
    assert relative_error(fed[:, :2], ended[:, :2]) < 1e-6
    assert relative_error(fed[:, 2:3], ended[:, 2:3]) > 1e-3


@pytest.mark.parametrize("frames", [13, 24, 30, 41])
def test_attention_sees_itself_and_twelve_before(frames: int) -> None:
    attention = LocalAttention(TINY).eval()
    randomize(attention)
    x = noise(1, frames, 16).double()
    attention.double()

    def run(x: torch.Tensor) -> torch.Tensor:
        return attention.step(x, attention.init_state(1))[0].detach()

    before = run(x)
    seen = torch.zeros(frames, frames, dtype=torch.bool)
    for n in range(frames):
        changed = x.clone()
        changed[:, n] += 1.0
        seen[:, n] = (run(changed) - before).abs().amax(-1)[0] > 1e-9
    t, n = torch.arange(frames)[:, None], torch.arange(frames)
    assert torch.equal(seen, (n <= t) & (n >= t - 12))


def test_group_norm_follows_its_definition() -> None:
    norm = CumulativeGroupNorm(3, eps=1e-3)
    randomize(norm)
    x = noise(1, 7, 4, 3) + 2.0
    means = [x[0, : t + 1].mean() for t in range(7)]
    squares = torch.stack([(x[0, t] - means[t]).pow(2).sum() for t in range(7)])
    expected = torch.stack([
        (x[0, t] - means[t]) / (squares[: t + 1].sum() / (12 * (t + 1)) + 1e-3).sqrt() * norm.weight
        for t in range(7)
    ])  # fmt: skip
    y, _ = norm.step(x, norm.init_state(1))
    assert relative_error(y[0].detach(), expected.detach()) < 1e-6


def test_group_norm_forgets_nothing_after_hours() -> None:
    norm = CumulativeGroupNorm(3, eps=1e-3)
    state = norm.init_state(1)
    assert {state.count.dtype, state.total.dtype, state.squares.dtype} == {torch.float64}
    hours, F, C = 3, 4, 3
    steps = hours * 3600 * 50
    state.count += steps * F * C
    state.total += 0.37 * steps * F * C
    state.squares += 1.21 * steps * F * C
    before = state.count.clone()
    x = noise(1, 8, F, C) + 0.37
    y, after = norm.step(x, state)
    assert (after.count - before).item() == 8 * F * C
    assert relative_error(y.detach(), (x - 0.37) / (1.21 + 1e-3) ** 0.5) < 1e-5


def test_group_norm_adds_up_three_hours() -> None:
    """All steps of 3 h against sums of extended precision; float32 is ten times further off."""
    norm, T = CumulativeGroupNorm(1, eps=1e-3), 3 * 3600 * 50
    x = noise(1, T, 4, 1).abs() + 3.0
    state, last = norm.init_state(1), torch.zeros(0)
    for piece in x.split(4096, dim=1):
        y, state = norm.step(piece, state)
        last = y.detach()
    values, count = x[0, :, :, 0].numpy(), 4 * np.arange(1, T + 1)

    def expected(dtype: type) -> np.ndarray:
        mean = np.cumsum(values.sum(1, dtype=dtype), dtype=dtype) / count.astype(dtype)
        deviation = values.astype(dtype) - mean[:, None]
        squares = np.cumsum((deviation**2).sum(1, dtype=dtype), dtype=dtype)
        return deviation / np.sqrt(squares / count + 1e-3)[:, None]

    exact, single = expected(np.longdouble), expected(np.float32)
    found, steps = last[0, :, :, 0].numpy(), last.shape[1]
    assert np.abs(found - exact[-steps:]).max() < 2e-6
    assert np.abs(single[-steps:] - exact[-steps:]).max() > 2e-5


def test_rms_norm_passes_silence_without_gradient() -> None:
    norm = RMSNorm(8)
    x = noise(3, 8)
    x[1] = 0.0
    x.requires_grad_()
    y = norm(x)
    y.backward(noise(3, 8, seed=1))
    assert x.grad is not None
    assert torch.equal(y[1], torch.zeros(8)) and torch.equal(x.grad[1], torch.zeros(8))
    with torch.no_grad():
        assert torch.equal(norm(x), y)
    free = x.detach()[[0, 2]].double().requires_grad_()
    (free * torch.rsqrt(free.pow(2).mean(-1, keepdim=True) + 1e-6)).backward(
        noise(3, 8, seed=1)[[0, 2]].double()
    )
    assert free.grad is not None
    assert relative_error(x.grad[[0, 2]].double(), free.grad) < 1e-5


def test_position_table_is_kept_until_the_weight_changes() -> None:
    table = copy.deepcopy(BLOCK.attention.attn.relative_position_embedding)
    with torch.no_grad():
        first = table()
        assert table() is first
        table.pos_proj.weight.mul_(2.0)
        assert relative_error(table(), 2.0 * first) < 1e-6
        table.load_state_dict({"pos_proj.weight": torch.zeros(16, 16)}, assign=True)
        assert not table().any()
        table.to(torch.bfloat16)
        assert table().dtype == torch.bfloat16
        table.train()
        assert table() is not table()
    table.eval()
    assert table().requires_grad
