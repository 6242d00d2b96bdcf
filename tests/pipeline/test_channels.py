"""Several channels become one, and nothing that is said gets lost."""

import wave
from pathlib import Path

import numpy as np
import pytest

from dragoman.pipeline.channels import BLOCK_S, Downmix
from dragoman.pipeline.media import read_audio

RATE_HZ = 16_000
BLOCK = round(BLOCK_S * RATE_HZ)


def voice(seconds: float = 4.0, seed: int = 0) -> np.ndarray:
    """Noise that swells and fades as syllables do; zeros at first, as recordings have."""
    rng = np.random.default_rng(seed)
    samples = np.round(seconds * RATE_HZ).astype(int)
    swell = np.abs(np.sin(np.arange(samples) * 2 * np.pi * 3 / RATE_HZ))
    out = rng.standard_normal(samples) * swell * 0.1
    out[:100] = 0
    return out


def mixed(*channels: np.ndarray, only: int | None = None) -> np.ndarray:
    downmix = Downmix(RATE_HZ, only)
    return np.concatenate([downmix.step(np.stack(channels)), downmix.flush()])


@pytest.mark.parametrize(
    "channels",
    [
        lambda x: (x, x),
        lambda x: (x, -x),
        lambda x: (x, 0 * x),
        lambda x: (0 * x, x),
        lambda x: (x, x, -x, x, 0 * x, -x),
        lambda x: (0 * x, 0 * x, 0 * x, 0 * x, x * 0.3, 0 * x),
        lambda x: (x, voice(seed=9) * 1e-4),
        lambda x: (x, 0 * x + 1e-5),
    ],
    ids=["alike", "opposite", "dead right", "dead left", "six", "one of six", "hiss", "offset"],
)
def test_one_voice_is_heard_as_it_is(channels):
    x = voice()
    found, wanted = mixed(*channels(x)), max(channels(x), key=lambda part: np.abs(part).max())
    assert len(found) == len(x)
    error = np.abs(np.abs(found) - np.abs(wanted)).max()
    assert error < 1e-4


def test_offsets_do_not_part_what_is_alike():
    x = voice() * 0.2
    assert np.abs(mixed(x + 0.05, x - 0.05) - x).max() < 0.051


def test_two_people_on_two_channels_are_both_heard():
    first, second = voice(seed=1), voice(seed=2)
    one, other = np.concatenate([first, 0 * second]), np.concatenate([0 * first, second])
    found = mixed(one, other)
    start = len(first)
    assert np.allclose(found[:start], first, atol=1e-6)
    assert np.corrcoef(found[start:], second)[0, 1] > 0.999
    # The second is as loud as a mean has it, from its first block on.
    part = slice(start + BLOCK, start + 10 * BLOCK)
    assert np.allclose(found[part], other[part] / 2, atol=1e-6)


def test_a_channel_that_turns_over_makes_no_click():
    steady = np.sin(np.arange(6 * RATE_HZ) * 2 * np.pi * 100 / RATE_HZ) * 0.3
    turned = steady.copy()
    turned[3 * RATE_HZ :] *= -1
    found = mixed(steady, turned)
    assert np.abs(np.diff(found)).max() < 1.05 * np.abs(np.diff(steady)).max()
    assert np.allclose(found[-RATE_HZ // 2 :], steady[-RATE_HZ // 2 :], atol=1e-6)


def test_pieces_do_not_show():
    x, y = voice(seed=1), voice(seed=2)
    stereo, rng = np.stack([x + 0.2 * y, -x]), np.random.default_rng(3)
    downmix, found, at = Downmix(RATE_HZ), [], 0
    while at < len(x):
        size = int(rng.integers(0, 700))
        found.append(downmix.step(stereo[:, at : at + size]))
        at += size
    found = np.concatenate([*found, downmix.flush()])
    assert np.array_equal(found, mixed(*stereo))


def test_less_than_a_block_is_held_back():
    downmix = Downmix(RATE_HZ)
    assert len(downmix.step(np.ones((2, 3 * BLOCK + 5)))) == 3 * BLOCK
    assert len(downmix.step(np.ones((1, 7)))) == 5 + 7, "mono waits for nothing"


def test_one_channel_alone():
    x, y = voice(seed=1), voice(seed=2)
    assert np.array_equal(mixed(x, y, only=2), y.astype(np.float32))
    with pytest.raises(ValueError, match="no channel 3: there are 2"):
        mixed(x, y, only=3)


def wav(path: Path, channels: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((len(channels), 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes((channels.T * 32_767).round().astype("<i2").tobytes())
    return path


def test_a_file_of_opposite_phases_is_the_mono_file(tmp_path):
    x = voice().astype(np.float32)
    paths = {}
    for name, parts in {"mono": [x], "opposite": [x, -x], "one": [0 * x, x]}.items():
        paths[name] = wav(tmp_path / f"{name}.wav", np.stack(parts))
    mono, opposite, one = (np.concatenate([*read_audio(path)]) for path in paths.values())
    assert np.abs(mono).max() > 0.2
    assert np.allclose(opposite, mono, atol=2e-4) and np.allclose(one, mono, atol=2e-4)
    second = np.concatenate([*read_audio(paths["opposite"], channel=2)])
    assert np.allclose(second, -mono, atol=2e-4)
