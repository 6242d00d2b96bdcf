"""Noises stand where they should below speech; what is no speech is long and loud enough."""

import numpy as np
import pytest

from evaluation.noise import LEVEL, babble, foreign, music, noises, noisy, pieces, pink, silence
from evaluation.noise import with_noise as in_noise
from evaluation.sets import BEFORE_SAMPLES, BEHIND_SAMPLES, Clip, in_quiet

SECOND = 16_000


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def clip(name, seed, voice):
    samples = np.random.default_rng(seed).normal(0, 0.1, 2 * SECOND).astype(np.float32)
    return Clip(name, samples, "es", {"es": "uno"}, voice)


@pytest.mark.parametrize("snr", [20, 5, 0])
def test_noise_is_so_far_below_speech(rng, snr):
    speech = np.concatenate([np.zeros(SECOND), rng.normal(0, 0.1, SECOND)]).astype(np.float32)
    noise = pink(len(speech), rng)
    added = noisy(speech, noise, snr) - speech
    assert 20 * np.log10(0.1 / np.std(added)) == pytest.approx(snr, abs=0.5)


def test_loud_noise_does_not_clip(rng):
    assert np.abs(noisy(rng.normal(0, 0.5, SECOND), pink(SECOND, rng), -10)).max() <= 1.0


def test_pink_noise_falls_by_3_db_an_octave(rng):
    power = np.abs(np.fft.rfft(pink(2**17, rng))) ** 2
    octaves = [power[2**n : 2 ** (n + 1)].mean() for n in range(9, 15)]
    steps = 10 * np.log10(np.array(octaves[:-1]) / octaves[1:])
    assert steps == pytest.approx([3.0] * len(steps), abs=0.7)


def test_babble_is_of_other_voices_and_the_same_each_time():
    first, *others = [clip("one", 1, "a"), clip("two", 2, "b"), clip("three", 3, "a")]
    once = in_noise(first, "babble", 10, [first, *others])
    assert np.array_equal(once.samples, in_noise(first, "babble", 10, [first, *others]).samples)
    only = in_noise(first, "babble", 10, [first, others[0]])
    assert np.array_equal(once.samples, only.samples), "its own voice is no noise to it"


@pytest.mark.parametrize("make", [pink, noises, music])
def test_sounds_are_as_long_and_loud_as_asked(make, rng):
    sound = make(3 * SECOND, rng)
    assert sound.shape == (3 * SECOND,) and sound.dtype == np.float32
    assert np.std(sound) == pytest.approx(LEVEL, rel=0.01)
    assert b"".join(piece.tobytes() for piece in pieces(sound)) == sound.tobytes()


def test_silence_is_digital_and_a_room_in_turn(rng):
    quiet = silence(10 * SECOND, rng)
    assert not quiet[: 5 * SECOND].any() and quiet[5 * SECOND :].all()


def test_foreign_speech_that_was_never_made_is_missed(rng, tmp_path):
    with pytest.raises(FileNotFoundError):
        foreign(SECOND, rng, tmp_path)


def test_a_babble_of_nobody_is_refused(rng):
    with pytest.raises(ValueError):
        babble(SECOND, rng, [])


def test_an_utterance_keeps_its_place_in_a_quiet_room():
    samples = np.full(SECOND, 0.5, np.float32)
    room = in_quiet(samples)
    assert len(room) == BEFORE_SAMPLES + SECOND + BEHIND_SAMPLES
    assert np.abs(room[BEFORE_SAMPLES:-BEHIND_SAMPLES] - 0.5).max() < 0.01
    assert 0 < np.abs(room[:BEFORE_SAMPLES]).max() < 0.01
