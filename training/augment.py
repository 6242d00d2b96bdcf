"""Makes clean synthetic speech sound like rooms, telephones and bad microphones.

Place: the trainer calls an `Augmenter` on every utterance, anew each epoch. Masks on features are
the trainer's business.

Unusual: every effect that is a filter (equalizer tilt, band limits, room, telephone) is one curve
over frequency, so all of them together cost one pair of Fourier transforms.
"""

import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from training import codecs
from training.noises import SAMPLE_RATE_HZ, Noises, speech_level

SPEED = (0.88, 1.14)
SNR_DB = (5.0, 40.0)
PEAK_DB = (-24.0, 0.0)
CODEC_SHARE = 0.12
RT60_MS = (100, 600)
_BANK_IMPULSES = 32
_SPEED_STEP = 0.02


class Augmenter:
    """Random effects from one seed: another voice far behind, speed, room, equalizer, band limits,
    noise, codec, level, clipping.

    babble: float [S] recordings at 16 kHz to build a murmur from (training voices only). Not safe
    to share by threads.
    """

    def __init__(self, seed: int, babble: Sequence[Tensor] = ()):
        self._rng = random.Random(seed)
        self._generator = torch.Generator().manual_seed(seed)
        self._noises = Noises(self._rng, self._generator, babble)
        self._rooms = [self._make_room() for _ in range(_BANK_IMPULSES)]

    def __call__(self, samples: Tensor, behind: Tensor | None = None) -> tuple[Tensor, float]:
        """Augment one utterance.

        samples: float [S] in [-1, 1] at 16 kHz; behind: somebody else's, far behind. Returns float
        [S'] in [-1, 1] and the time scale: what was at index i is at `i * scale`. Raises ValueError
        for other shapes.
        """
        if samples.dim() != 1 or not samples.is_floating_point() or not len(samples):
            raise ValueError(
                f"expected float samples [S], got {samples.dtype} {list(samples.shape)}; "
                "divide int16 by 32768"
            )
        rng = self._rng
        if behind is not None:
            samples = samples + self._behind(samples, behind)
        scale = 1 / _quantized(rng.uniform(*SPEED)) if rng.random() < 0.7 else 1.0
        heard = _change_speed(samples, scale)
        if rng.random() < 0.85:
            heard = self._filter(heard)
        peak = float(heard.abs().amax().clamp_min(1e-4))
        if rng.random() < 0.85:
            heard = heard + self._noise(heard)
        if rng.random() < CODEC_SHARE:
            heard = self._coded(heard)
        gain = 10 ** (rng.uniform(*PEAK_DB) / 20) / peak
        clip = (
            rng.uniform(0.25, 0.7) * 10 ** (rng.uniform(*PEAK_DB) / 20)
            if rng.random() < 0.06
            else 1.0
        )
        if clip < 1.0:
            gain = max(gain, clip * 1.5 / peak)
        return (heard * gain).clamp_(-clip, clip), len(heard) / len(samples)

    def nothing(self, length: int) -> Tensor:
        """float [length] in [-1, 1] in which nobody says anything."""
        return self._noises.alone(length)

    def _coded(self, samples: Tensor) -> Tensor:
        """Through a codec of telephones or calls, where there are any."""
        names = codecs.available()
        if not names:
            return samples
        name, peak = self._rng.choice(names), float(samples.abs().amax().clamp_min(1e-4))
        level = 10 ** (self._rng.uniform(-12, 0) / 20) / peak
        bits = self._rng.choice(codecs.CODECS[name].bits_a_second)
        heard = codecs.through((samples * level).numpy(), name, bits)
        return torch.from_numpy(heard) / level

    def _behind(self, samples: Tensor, other: Tensor) -> Tensor:
        """Another voice, 12 to 25 dB below, from a random moment on: float [S]."""
        start = self._rng.randrange(max(1, len(samples) - 1_600))
        other = other[: len(samples) - start]
        level = speech_level(samples) / (speech_level(other) + 1e-8)
        quieter = other * (level * 10 ** (-self._rng.uniform(12, 25) / 20))
        return torch.nn.functional.pad(quieter, (start, len(samples) - start - len(other)))

    def _filter(self, samples: Tensor) -> Tensor:
        """Room, tilt and band limits; the direct sound stays where it was."""
        rng = self._rng
        room = rng.choice(self._rooms) if rng.random() < 0.45 else None
        size = _fast_size(len(samples) + (len(room) if room is not None else 512))
        spectrum = torch.fft.rfft(samples, size)
        spectrum *= self._response(size // 2 + 1)
        if room is not None:
            spectrum *= torch.fft.rfft(room, size)
        return torch.fft.irfft(spectrum, size)[: len(samples)]

    def _response(self, bins: int) -> Tensor:
        """float [bins]: a random gain for each frequency."""
        rng = self._rng
        hz = torch.linspace(0, SAMPLE_RATE_HZ / 2, bins)
        octaves = (hz.clamp_min(50) / 1_000).log2_()
        curve_db = octaves * rng.uniform(-3, 3)
        for _ in range(2):  # a resonance or a hole
            centre, width = rng.uniform(-3, 2.8), rng.uniform(0.3, 1.2)
            curve_db += rng.uniform(-6, 6) * torch.exp(-(((octaves - centre) / width) ** 2))
        kind = rng.random()
        if kind < 0.15:
            curve_db += _slope(hz, 300, below=True) + _slope(hz, 3_400)
        elif kind < 0.4:
            curve_db += _slope(hz, rng.uniform(4_000, 7_000))
        elif kind < 0.55:
            curve_db += _slope(hz, rng.uniform(80, 200), below=True)
        return torch.pow(10.0, curve_db / 20)

    def _noise(self, samples: Tensor) -> Tensor:
        """Noise at a random distance below the speech, measured where there is speech."""
        rng = self._rng
        noise = self._noises.piece(rng.choice(self._noises.all), len(samples))
        level = speech_level(samples) / (noise.square().mean().sqrt() + 1e-8)
        return noise * (level * 10 ** (-rng.uniform(*SNR_DB) / 20))

    def _make_room(self) -> Tensor:
        """An impulse response: the direct sound, then noise that falls by 60 dB within RT60."""
        rt60 = self._rng.uniform(*RT60_MS) * SAMPLE_RATE_HZ / 1_000
        length = int(rt60)
        decay = torch.exp(-6.908 * torch.arange(length) / rt60)
        tail = torch.randn(length, generator=self._generator) * decay
        tail[: self._rng.randrange(16, 160)] = 0
        direct_to_tail = 10 ** (self._rng.uniform(0, 14) / 20)
        impulse = tail / (tail.square().sum().sqrt() * direct_to_tail)
        impulse[0] = 1.0
        return impulse


def _change_speed(samples: Tensor, scale: float) -> Tensor:
    """Play slower (scale over 1) or faster; pitch and formants move with it. float [S] -> [round(S
    * scale)].
    """
    if scale == 1.0:
        return samples
    length = round(len(samples) * scale)
    size = _fast_size(max(len(samples), 256))
    # Resampling in the frequency domain: pad or cut the spectrum, to a size in the wanted ratio.
    target = round(size * scale / 2) * 2
    spectrum = torch.fft.rfft(samples, size)
    bins = target // 2 + 1
    if bins > len(spectrum):
        spectrum = torch.nn.functional.pad(spectrum, (0, bins - len(spectrum)))
    return torch.fft.irfft(spectrum[:bins], target)[:length] * (target / size)


def _quantized(speed: float) -> float:
    return round(speed / _SPEED_STEP) * _SPEED_STEP


def _slope(hz: Tensor, edge_hz: float, below: bool = False) -> Tensor:
    """dB: 24 per octave beyond the edge, no lower than -60."""
    octaves = (hz.clamp_min(1) / edge_hz).log2_()
    return (-24 * (-octaves if below else octaves).clamp_min(0)).clamp_min(-60)


def _fast_size(length: int) -> int:
    """The next length that is a power of two times 4 to 8: Fourier transforms are fast for it."""
    power = 1 << max(0, (length - 1).bit_length() - 3)
    return math.ceil(length / power) * power
