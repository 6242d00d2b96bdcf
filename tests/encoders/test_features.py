"""The log-mel front end against the reference, and in pieces."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Gemma3nAudioFeatureExtractor

from dragoman.encoders import LogMel, features
from tests.encoders.helpers import sound
from tests.streaming import (
    check_lookahead,
    check_rows_apart,
    check_streaming,
    cuts,
    relative_error,
)


@pytest.mark.parametrize("seconds", [0.1, 3.0, 20.0])
def test_agrees_with_the_reference(seconds: float) -> None:
    x = sound(1, int(seconds * 16_000))
    x = torch.nn.functional.pad(x, (0, -x.shape[1] % 128))  # as the reference pads a lone clip
    given_back = Gemma3nAudioFeatureExtractor()(x[0].numpy(), return_tensors="pt")
    reference = given_back["input_features"]
    assert relative_error(LogMel()(x), reference) < 1e-5
    assert reference.shape[1] == (x.shape[1] - 513) // 160 + 1


def test_agrees_with_the_reference_on_digital_silence_and_full_scale() -> None:
    x = torch.cat([torch.zeros(1, 3200), sound(1, 3200).sign()], dim=1)
    reference = Gemma3nAudioFeatureExtractor()(x[0].numpy(), return_tensors="pt")["input_features"]
    assert relative_error(LogMel()(x), reference) < 1e-5


@pytest.mark.parametrize("hz", [440, 1000, 3000])
def test_a_pure_tone_differs_by_the_last_bits_of_the_window_alone(hz, monkeypatch) -> None:
    """Far from the tone there is only what the window lets through, near the floor."""
    x = 0.5 * torch.sin(2 * torch.pi * hz * torch.arange(16_000, dtype=torch.float64) / 16_000)
    x, extractor = x.float()[None], Gemma3nAudioFeatureExtractor()
    reference = extractor(x[0].numpy(), return_tensors="pt")["input_features"]
    assert (LogMel()(x) - reference).abs().max() < 2e-2
    ours, filters = features._constants(128, torch.device("cpu"))
    theirs = torch.from_numpy(extractor.window).flatten()
    assert (ours - theirs).abs().max() < 1e-7
    monkeypatch.setattr(features, "_constants", lambda bands, device: (theirs, filters))
    assert (LogMel()(x) - reference).abs().max() < 1e-6


@settings(deadline=None, max_examples=25)
@given(lengths=cuts(3000), samples=st.integers(0, 6000))
def test_streams(lengths: list[int], samples: int) -> None:
    check_streaming(LogMel(), sound(2, samples), lengths)


def test_frames_come_when_declared() -> None:
    check_lookahead(LogMel(16), sound(1, 1200))


def test_rows_do_not_meet() -> None:
    check_rows_apart(LogMel(), sound(1, 4000), sound(1, 4000, seed=1) * 100, [700, 1, 0, 900])


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (512, 0), (513, 1), (672, 1), (673, 2)])
def test_a_frame_needs_513_samples(samples: int, frames: int) -> None:
    assert LogMel()(sound(3, samples)).shape == (3, frames, 128)


def test_chunks_give_13_frames_and_then_16() -> None:
    mel, x = LogMel(), sound(1, 2560 * 6)
    state, counts = mel.init_state(1), []
    for chunk in x.split(2560, dim=1):
        y, state = mel.step(chunk, state)
        counts.append(y.shape[1])
    assert counts == [13, 16, 16, 16, 16, 16]
    assert state.tail.shape == (1, 480)


def test_half_precision_leaves_the_front_end_alone() -> None:
    x = sound(1, 3000)
    assert torch.equal(LogMel().to(torch.bfloat16)(x), LogMel()(x))


@pytest.mark.parametrize("x", [torch.zeros(900), torch.zeros(1, 900, dtype=torch.int16)])
def test_refuses_what_are_not_samples(x: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"float samples \[B, S\]"):
        LogMel()(x)
