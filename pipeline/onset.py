"""Where speech begins in a segment, which has some of the sound before it, too.

Between the segments of a batch and their captions: a cue should come with the voice, within a tenth
of a second, and the segmenter keeps up to 0.3 s before it so that the model hears the first sound.

What is unusual: where the segment is as loud at its beginning as later, because it was cut out of
running speech or lies in noise, its beginning is taken. Too early is better than too late.
"""

import numpy as np

from dragoman.stages.messages import SAMPLE_RATE_HZ

FRAME = SAMPLE_RATE_HZ // 100
SUSTAINED = 4  # frames, 40 ms: a click is shorter
BELOW_DB = 26.0  # under the loud parts of the segment: the weakest first sounds are about there
LOUD = 0.9  # the quantile of the frames that counts as loud
SEARCHED = 100  # frames: what is before a voice is less than a second


def onset(samples: np.ndarray) -> int:
    """The sample at which speech begins in ``samples``, float32 [S], a whole segment at 16 kHz."""
    loud = loud_frames(samples)
    if len(loud) < SUSTAINED:
        return 0
    runs = np.lib.stride_tricks.sliding_window_view(loud, SUSTAINED).all(axis=1)
    first = int(np.argmax(runs)) if runs.any() else 0
    return first * FRAME if first < SEARCHED else 0


def loud_frames(samples: np.ndarray) -> np.ndarray:
    """Which frames of ``samples``, float32 [S], are as loud as weak sounds of the speech in them:
    bool [S // FRAME].
    """
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    if not len(frames):
        return np.zeros(0, bool)
    power = np.mean((frames - frames.mean(axis=1, keepdims=True)) ** 2, axis=1)
    return power > np.quantile(power, LOUD) * 10 ** (-BELOW_DB / 10)
