"""Augmentation: lengths, time scale, determinism, range."""

import random

import pytest
import torch

from training.augment import SPEED, Augmenter
from training.noises import BANK_SAMPLES, Noises


def clicks(length: int, every: int) -> torch.Tensor:
    """Silence with one short burst in the middle of each stretch."""
    samples = torch.zeros(length)
    for at in range(every // 2, length, every):
        samples[at : at + 40] = torch.hann_window(40) * 0.5
    return samples


def test_time_scale_moves_events_with_the_audio():
    """A burst at i is found at i * scale, whatever the room, equalizer and noise."""
    samples = clicks(40_000, 40_000)
    augment = Augmenter(3)
    scales = set()
    for _ in range(40):
        heard, scale = augment(samples)
        assert heard.shape == (round(40_000 * scale),)
        scales.add(round(scale, 3))
        at = int(heard.abs()[: len(heard)].argmax())
        # The middle of the burst; the band limits and clipping smear it by a few milliseconds.
        assert abs(at - 20_020 * scale) < 160, (at, scale)
    assert len(scales) > 4
    assert 1 / SPEED[1] - 0.01 <= min(scales) and max(scales) <= 1 / SPEED[0] + 0.01


def test_same_seed_same_sound_other_seed_other_sound():
    samples = clicks(32_000, 4_000)
    first, again, other = (Augmenter(seed) for seed in (1, 1, 2))
    for _ in range(5):
        a, b, c = first(samples), again(samples), other(samples)
        assert torch.equal(a[0], b[0]) and a[1] == b[1]
        assert a[0].shape != c[0].shape or not torch.equal(a[0], c[0])


@pytest.mark.parametrize("length", [1, 100, 5_000, 16_001, 480_000])
def test_any_length_stays_in_range(length):
    augment = Augmenter(5)
    samples = torch.randn(length, generator=torch.Generator().manual_seed(1)) * 0.1
    for _ in range(6):
        heard, scale = augment(samples)
        assert heard.isfinite().all() and heard.abs().max() <= 1.0
        assert len(heard) == round(length * scale) > 0


def test_silence_stays_finite():
    heard, _ = Augmenter(7)(torch.zeros(16_000))
    assert heard.isfinite().all()


def test_levels_and_noise_vary():
    samples = clicks(32_000, 1_000)
    augment = Augmenter(8)
    heard = [augment(samples)[0] for _ in range(60)]
    peaks_db = torch.stack([h.abs().max() for h in heard]).log10() * 20
    assert peaks_db.max() > -6 and peaks_db.min() < -18
    floors_db = (
        torch.stack([h.abs().median() / h.abs().max() for h in heard]).clamp_min(1e-6).log10() * 20
    )
    assert floors_db.max() - floors_db.min() > 20


def test_babble_is_made_from_recordings():
    rng = random.Random(1)
    tone = [torch.sin(torch.arange(9_000) * rng.uniform(0.2, 0.4)) for _ in range(6)]
    generator = torch.Generator().manual_seed(1)
    noises = Noises(random.Random(1), generator, tone)
    assert len(noises.all) > len(noises.speechless) == len(Noises(rng, generator, []).all)


@pytest.mark.parametrize(
    "wrong", [torch.zeros(2, 100), torch.zeros(100, dtype=torch.int16), torch.zeros(0)]
)
def test_wrong_input_is_refused(wrong):
    with pytest.raises(ValueError, match="float samples"):
        Augmenter(1)(wrong)


def test_every_noise_is_heard_all_the_time_and_none_is_another():
    noises = Noises(random.Random(1), torch.Generator().manual_seed(1), [])
    for noise in noises.speechless:
        assert noise.shape == (BANK_SAMPLES,) and noise.isfinite().all()
        seconds = noise.view(20, -1).square().mean(1)
        assert (seconds > 1e-6 * seconds.max()).all()
    heard = torch.stack([noise / noise.norm() for noise in noises.speechless])
    assert (heard @ heard.T - torch.eye(len(heard))).abs().max() < 0.2


def test_nothing_is_quiet_or_loud_but_never_speech():
    augment = Augmenter(4)
    levels = [augment.nothing(length).square().mean().sqrt() for length in [8_000] * 40]
    assert min(levels) < 1e-4 and 0.05 < max(levels) <= 1
    assert augment.nothing(123).shape == (123,)


def test_another_voice_is_far_behind():
    augment, samples = Augmenter(6), clicks(32_000, 1_000)
    other = torch.sin(torch.arange(20_000) * 0.3)
    added = [augment._behind(samples, other) for _ in range(20)]
    for one in added:
        assert one.shape == samples.shape
        db = 20 * torch.log10(one.abs().max() / samples.abs().max())
        assert -40 < db < -6
    assert len({int(one.ne(0).nonzero()[0]) for one in added if one.any()}) > 10
