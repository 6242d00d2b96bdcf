"""Speech as telephones and calls carry it: through a real codec and back.

Place: one of the effects of `training.augment`. Needs PyAV; a machine without it trains without
codecs. GSM itself cannot be written by PyAV: AMR, its successor of the same kind and band, stands
for it.
"""

import logging
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

av: Any
try:
    import av
except ImportError:
    av = None  # a machine for training alone may lack it

log = logging.getLogger(__name__)
SAMPLE_RATE_HZ = 16_000


@dataclass(frozen=True)
class Codec:
    """``encoder`` and ``decoder`` are FFmpeg's names; ``delay`` is in samples at ``rate_hz``."""

    encoder: str
    decoder: str
    rate_hz: int
    bits_a_second: tuple[int, ...]
    delay: int = 0


CODECS = {
    "amr": Codec("libopencore_amrnb", "amrnb", 8_000, (4_750, 7_400, 12_200), delay=40),
    "opus": Codec("libopus", "opus", 16_000, (8_000, 12_000, 16_000, 24_000), delay=104),
    "g722": Codec("g722", "g722", 16_000, (64_000,), delay=22),
    "a-law": Codec("pcm_alaw", "pcm_alaw", 8_000, (64_000,)),
}


@cache
def available() -> tuple[str, ...]:
    """The names of the codecs that work here, of CODECS."""
    if av is None:
        log.warning("PyAV is missing: training without codecs; pip install av brings them")
        return ()
    return tuple(CODECS)


def through(samples: np.ndarray, name: str, bits_a_second: int) -> np.ndarray:
    """float32 [S] in [-1, 1] at 16 kHz -> what a listener behind the codec hears, as long."""
    codec = CODECS[name]
    # Behind the end: what the codec holds back, and what makes the length even.
    padded = np.pad(samples, (0, SAMPLE_RATE_HZ // 10 + len(samples) % 2))
    sent = _resampled(padded, SAMPLE_RATE_HZ, codec.rate_hz)
    heard = _decoded(_encoded(sent, codec, bits_a_second), codec)[codec.delay :]
    heard = _resampled(heard, codec.rate_hz, SAMPLE_RATE_HZ)[: len(samples)]
    return np.pad(heard, (0, len(samples) - len(heard)))


def _encoded(samples: np.ndarray, codec: Codec, bits_a_second: int) -> list:
    encoder = av.CodecContext.create(codec.encoder, "w")
    encoder.sample_rate, encoder.layout, encoder.format = codec.rate_hz, "mono", "s16"
    encoder.bit_rate = bits_a_second
    encoder.open()
    size = encoder.frame_size or codec.rate_hz // 50
    ints = (np.clip(samples, -1, 1) * 32_767).astype(np.int16)
    packets = []
    for start in range(0, len(ints) - size + 1, size):
        frame = av.AudioFrame.from_ndarray(ints[None, start : start + size], "s16", "mono")
        frame.sample_rate, frame.pts = codec.rate_hz, start
        packets += encoder.encode(frame)
    return packets + encoder.encode(None)


def _decoded(packets: list, codec: Codec) -> np.ndarray:
    decoder = av.CodecContext.create(codec.decoder, "r")
    decoder.sample_rate, decoder.layout = codec.rate_hz, "mono"
    resampler = av.AudioResampler("flt", "mono", codec.rate_hz)
    frames = [frame for packet in packets for frame in decoder.decode(packet)]
    frames += decoder.decode(None)
    heard = [one.to_ndarray()[0] for frame in frames for one in resampler.resample(frame)]
    heard += [one.to_ndarray()[0] for one in resampler.resample(None)]
    return np.concatenate(heard)


def _resampled(samples: np.ndarray, rate_hz: int, wanted_hz: int) -> np.ndarray:
    """By one half or two, in the frequency domain."""
    if rate_hz == wanted_hz:
        return samples
    count = len(samples) * wanted_hz // rate_hz
    spectrum = np.fft.rfft(samples)
    bins = count // 2 + 1
    kept = np.zeros(bins, spectrum.dtype)
    kept[: min(bins, len(spectrum))] = spectrum[:bins]
    return (np.fft.irfft(kept, count) * (wanted_hz / rate_hz)).astype(np.float32)
