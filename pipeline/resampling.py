"""One stream of sound at another rate, by libswresample: nothing clicks where its pieces meet.

Place: behind :mod:`pipeline.channels`, in files, microphones, the browser's sound and arrays alike.
"""

import av
import numpy as np

from dragoman.stages.messages import SAMPLE_RATE_HZ


class Resampler:
    """Mono float32 at ``rate_hz`` in, at 16 kHz out; blocks of any length make one stream."""

    def __init__(self, rate_hz: int) -> None:
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
