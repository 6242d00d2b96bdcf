"""Codecs: what comes back is the same speech at the same place, changed."""

import numpy as np
import pytest

from training import codecs
from training.codecs import CODECS, through

LAGS = range(-20, 21)


def voice(count: int) -> np.ndarray:
    """Harmonics of a pitch that moves, in syllables: enough like speech for a codec of speech."""
    time = np.arange(count) / codecs.SAMPLE_RATE_HZ
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(3 * time)) / codecs.SAMPLE_RATE_HZ
    tone = sum(np.sin(k * phase) / k for k in range(1, 20))
    return (0.1 * tone * (0.5 - 0.5 * np.cos(2 * np.pi * 4 * time)) ** 2).astype(np.float32)


def loudness(samples: np.ndarray) -> np.ndarray:
    """Smooth over 20 ms, every 2 ms."""
    energy = np.convolve(samples**2, np.hanning(320), "same")
    return np.sqrt(energy[::32])


@pytest.mark.parametrize("name", CODECS)
def test_speech_stays_at_its_place(name):
    samples = voice(32_000)
    for bits in CODECS[name].bits_a_second:
        heard = through(samples, name, bits)
        assert heard.shape == samples.shape and heard.dtype == np.float32
        ours, theirs = loudness(samples), loudness(heard)
        lags = [np.corrcoef(ours[40:-40], np.roll(theirs, lag)[40:-40])[0, 1] for lag in LAGS]
        assert abs(LAGS[int(np.argmax(lags))]) <= 3, "six milliseconds"
        assert max(lags) > 0.9
        assert np.abs(heard - samples).max() > 1e-4, "it went through something"


@pytest.mark.parametrize("count", [1, 159, 16_001])
def test_any_length(count):
    assert through(voice(count), "amr", 12_200).shape == (count,)


def test_without_pyav_there_are_none(monkeypatch, caplog):
    monkeypatch.setattr(codecs, "av", None)
    codecs.available.cache_clear()
    try:
        assert codecs.available() == () and "pip install av" in caplog.text
    finally:
        codecs.available.cache_clear()
