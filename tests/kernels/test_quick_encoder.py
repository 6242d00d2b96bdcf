"""Conformer blocks by their kernels against the same by their definition."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.encoders import AudioConfig
from dragoman.encoders.attention import LocalAttention
from dragoman.encoders.conformer import ConformerBlock, LightConv
from dragoman.encoders.norms import RMSNorm
from dragoman.kernels import accelerate, conformer_ops
from tests.encoders.helpers import TINY, noise, tiny_encoder
from tests.encoders.test_layers import ODD, ready, tensors
from tests.streaming import cuts, relative_error, split, stream

BLOCK = accelerate(ready(ConformerBlock(TINY)))


@pytest.mark.parametrize("config", [TINY, ODD], ids=["tiny", "odd"])
@pytest.mark.parametrize("rows", [1, 3])
@settings(deadline=None, max_examples=15)
@given(lengths=cuts(20), frames=st.integers(1, 40))
def test_kernels_equal_the_definition(
    config: AudioConfig, rows: int, lengths: list[int], frames: int
) -> None:
    """A block by its kernels and by torch: the same frames, and a state that either can go on from.

    Frames are as loud as what the limits cut off.
    """
    plain = ready(ConformerBlock(config))
    block = accelerate(copy.deepcopy(plain))
    x = noise(rows, frames, 16, scale=3.0)
    with torch.no_grad():
        ours, theirs = block.init_state(rows), plain.init_state(rows)
        for piece in filter(torch.numel, split(x, lengths)):
            y, ours = block.step(piece, ours)
            expected, theirs = plain.step(piece, theirs)
            assert relative_error(y, expected) < 1e-5
            for mine, other in zip(tensors(ours), tensors(theirs), strict=True):
                assert relative_error(mine.double(), other.double()) < 1e-5
            ours, theirs = theirs, ours


def test_it_is_the_kernels_that_are_tested(monkeypatch) -> None:
    monkeypatch.setattr(LocalAttention, "attend", None)
    monkeypatch.setattr(LightConv, "convolve", None)
    monkeypatch.setattr(RMSNorm, "forward", None)
    with torch.no_grad():
        BLOCK(noise(1, 30, 16))


def test_what_is_trained_is_the_definition(monkeypatch) -> None:
    for name in ("norm", "add_norm", "silu_", "convolve", "attend"):
        monkeypatch.setattr(conformer_ops, name, None)
    BLOCK(noise(1, 30, 16)).sum().backward()
    for name, parameter in BLOCK.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
    BLOCK.zero_grad()


@pytest.mark.parametrize(
    "name", ["attention.attn.per_dim_scale", "lconv1d.depthwise_conv1d.weight"]
)
def test_changed_weights_are_heard(name: str) -> None:
    block, x = copy.deepcopy(BLOCK), noise(1, 20, 16)
    with torch.no_grad():
        block(x)
        block.get_parameter(name).mul_(-2.0)
        changed, fresh = block(x), accelerate(ready(ConformerBlock(TINY)))
        fresh.load_state_dict(block.state_dict())
        assert torch.equal(changed, fresh(x))
        assert relative_error(changed, BLOCK(x)) > 1e-3


def test_an_encoder_in_bf16_is_as_near_as_its_definition() -> None:
    """Kernels in bf16 against torch in float32: within what rounding does to the same by torch."""
    mel = noise(1, 200, 16)
    half = tiny_encoder().to(torch.bfloat16)
    with torch.no_grad():
        expected, torchs = tiny_encoder()(mel), half(mel)
        ours = stream(accelerate(half), split(mel, [24, *[16] * 9]), 1)
    assert relative_error(ours.float(), expected) < 1.1 * relative_error(torchs.float(), expected)
