"""What is heard beside speech: a bank of noises, made once and reused from random places.

Place: `training.augment` lays them under speech, and gives them alone as examples of nothing said.
"""

import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor

SAMPLE_RATE_HZ = 16_000
BANK_SAMPLES = 20 * SAMPLE_RATE_HZ
_SLOPES = (0.0, 0.0, 0.5, 0.5, 1.0)  # 0 white, 0.5 pink, 1 brown


class Noises:
    """Noises from one seed. babble: float [S] recordings at 16 kHz to build a murmur from."""

    def __init__(self, rng: random.Random, generator: torch.Generator, babble: Sequence[Tensor]):
        self._rng, self._generator = rng, generator
        self.speechless = [self._colored(slope) for slope in _SLOPES]
        self.speechless += [self._hum(50), self._hum(60), self._swelling(), self._knocks()]
        self.speechless.append(self.tones(BANK_SAMPLES))
        murmurs = [self._babble(babble, voices) for voices in (3, 5, 8)] if babble else []
        self.all = self.speechless + murmurs

    def piece(self, noise: Tensor, length: int) -> Tensor:
        """float [length] from a random place of ``noise``."""
        start = self._rng.randrange(max(1, len(noise) - length))
        noise = noise[start : start + length]
        return noise.repeat(math.ceil(length / len(noise)))[:length]

    def alone(self, length: int) -> Tensor:
        """float [length] in [-1, 1]: near silence, noise, a murmur, or tones over noise."""
        rng, kind = self._rng, self._rng.random()
        level = 10 ** (rng.uniform(-70, -10) / 20)
        if kind < 0.15:
            return torch.randn(length, generator=self._generator) * (level * 1e-2)
        sound = _unit(self.piece(rng.choice(self.all), length))
        if kind > 0.6:
            sound = sound * 10 ** (rng.uniform(-40, 0) / 20) + _unit(self.tones(length))
        return (sound * level).clamp_(-1, 1)

    def tones(self, length: int) -> Tensor:
        """Notes with harmonics, up to three at a time, that begin sharply and fade."""
        rng, out = self._rng, torch.zeros(length)
        position = 0
        while position < length:
            count = min(length - position, rng.randrange(1_600, 16_000))
            time = torch.arange(count) / SAMPLE_RATE_HZ
            fade = torch.exp(-time * rng.uniform(0, 6))
            for _ in range(rng.randrange(0, 4)):
                hz = 110 * 2 ** (rng.randrange(48) / 12)
                for harmonic in range(1, rng.randrange(2, 6)):
                    wave = torch.sin(2 * math.pi * hz * harmonic * time)
                    out[position : position + count] += wave * fade / harmonic
            position += count
        return out

    def _colored(self, slope: float) -> Tensor:
        """Noise whose amplitude falls with frequency to the power of slope."""
        spectrum = torch.fft.rfft(torch.randn(BANK_SAMPLES, generator=self._generator))
        hz = torch.linspace(0, SAMPLE_RATE_HZ / 2, len(spectrum)).clamp_min(20)
        return torch.fft.irfft(spectrum / hz**slope, BANK_SAMPLES)

    def _hum(self, mains_hz: int) -> Tensor:
        """Mains hum with its harmonics, over a little pink noise."""
        time = torch.arange(BANK_SAMPLES) / SAMPLE_RATE_HZ
        hum = torch.zeros(BANK_SAMPLES)
        for harmonic in range(1, 9):
            phase, gain = self._rng.uniform(0, 2 * math.pi), self._rng.uniform(0.2, 1) / harmonic
            hum += gain * torch.sin(2 * math.pi * mains_hz * harmonic * time + phase)
        return _unit(hum) + 0.3 * _unit(self._colored(0.5))

    def _swelling(self) -> Tensor:
        """Pink noise that comes and goes, as traffic and wind do."""
        time = torch.arange(BANK_SAMPLES) / SAMPLE_RATE_HZ
        swell = torch.zeros(BANK_SAMPLES)
        for _ in range(6):
            swell += torch.sin(
                2 * math.pi * self._rng.uniform(0.1, 2) * time + self._rng.uniform(0, 6)
            )
        return self._colored(0.7) * torch.exp(0.6 * swell)

    def _knocks(self) -> Tensor:
        """Short resonant bursts: typing, steps, dishes."""
        out, time = torch.zeros(BANK_SAMPLES), torch.arange(1_600) / SAMPLE_RATE_HZ
        position = 0
        while position < BANK_SAMPLES - 1_600:
            hz, fall = self._rng.uniform(300, 4_000), self._rng.uniform(60, 400)
            burst = torch.sin(2 * math.pi * hz * time) + torch.randn(
                1_600, generator=self._generator
            )
            out[position : position + 1_600] += burst * torch.exp(-fall * time)
            position += self._rng.randrange(800, 8_000)
        return _unit(out) + 0.05 * _unit(self._colored(0.5))

    def _babble(self, recordings: Sequence[Tensor], voices: int) -> Tensor:
        """Several people talking at once."""
        out = torch.zeros(BANK_SAMPLES)
        for _ in range(voices):
            position = 0
            while position < BANK_SAMPLES:
                piece = self._rng.choice(recordings)[: BANK_SAMPLES - position]
                out[position : position + len(piece)] += piece / (speech_level(piece) + 1e-8)
                position += len(piece)
        return out


def speech_level(samples: Tensor) -> float:
    """Root mean square of the louder half of 20 ms frames, so that silence around the speech does
    not count.
    """
    frames = samples[: len(samples) // 320 * 320].view(-1, 320).square().mean(1)
    if not len(frames):
        return float(samples.square().mean().sqrt())
    return float(frames[frames >= frames.mean()].mean().sqrt())


def _unit(sound: Tensor) -> Tensor:
    return sound / (sound.square().mean().sqrt() + 1e-8)
