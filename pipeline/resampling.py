"""One stream of sound at another rate, by libswresample: nothing clicks where its pieces meet.

Place: behind :mod:`pipeline.channels`, in files, microphones, the browser's sound and arrays alike.
"""

import av
import numpy as np

from dragoman.errors import InputError
from dragoman.stages.messages import SAMPLE_RATE_HZ

LOWEST_HZ, HIGHEST_HZ = 1_000, 1_536_000  # what a header claims beyond them is damage


class Resampler:
    """Mono float32 at ``rate_hz`` in, at 16 kHz out; blocks of any length make one stream.

    Raises InputError for a rate that no recorder has: a filter for it could fill the memory.
    """

    def __init__(self, rate_hz: int) -> None:
        if not LOWEST_HZ <= rate_hz <= HIGHEST_HZ:
            raise InputError(
                f"sound at {rate_hz} Hz cannot be heard: expected {LOWEST_HZ} to {HIGHEST_HZ}; "
                "convert it to 16 kHz, or see whether its header is damaged"
            )
        self._rate_hz = rate_hz
        self._resampler = av.AudioResampler("fltp", "mono", SAMPLE_RATE_HZ)

    def step(self, mono: np.ndarray) -> np.ndarray:
        """What can be given out once ``mono``, float32 [S], is known."""
        if not len(mono):
            return mono
        frame = av.AudioFrame.from_ndarray(mono[None], format="fltp", layout="mono")
        frame.sample_rate = self._rate_hz
        return _joined(self._resampler.resample(frame))

    def flush(self) -> np.ndarray:
        """The rest; nothing may be fed after it."""
        return _joined(self._resampler.resample(None))


def _joined(frames: list[av.AudioFrame]) -> np.ndarray:
    parts = [frame.to_ndarray()[0] for frame in frames]
    return np.clip(np.concatenate([np.zeros(0, np.float32), *parts]), -1.0, 1.0)
