"""Finds the shot changes of a film: hard cuts, where one frame has little to do with the last.

Fed by :mod:`pipeline.frames` with the frames that it decodes anyway; :mod:`pipeline.snapping` keeps
cues in step with what comes out. Frames are compared as small grey copies, which noise and
compression do not change.

What is unusual: a frame must differ more than the one before it did, so fast movement is no cut,
and the frame behind it must differ as well from that before it, so a camera's flash is none. Fades
are none either: they have no frame to which a cue could be moved.
"""

import av
import numpy as np

THUMB = 64, 36  # width, height of what is compared
LEVELS = 16.0  # of 255, by which pixels differ on the average
SHARE = 0.2  # of the pixels that have moved to other bins of the histogram
BIN_LEVELS = 16


class Shots:
    """The shot changes of one film, in seconds of its clock: ``changes``, as far as it was seen."""

    def __init__(self) -> None:
        self.changes: list[float] = []
        self._last: np.ndarray | None = None
        self._moved = 0.0  # how much the last frame differed from the one before
        self._before: np.ndarray | None = None  # the frame before a change that may be a flash
        self._at_s = 0.0

    def step(self, thumb: np.ndarray, time_s: float) -> None:
        """Takes in the next frame: its `thumb`, and when it is shown."""
        last, self._last = self._last, thumb
        if last is None:
            return
        if self._before is not None:
            if _is_other(self._before, thumb):
                self.changes.append(round(self._at_s, 3))
            self._before = None
        moved = _difference(last, thumb)
        if moved - self._moved >= LEVELS and _is_other(last, thumb):
            self._before, self._at_s = last, time_s
        self._moved = moved


def thumb(frame: av.VideoFrame) -> np.ndarray:
    """A small grey copy of ``frame``: int16 [36, 64]."""
    width, height = THUMB
    return frame.reformat(width, height, "gray").to_ndarray().astype(np.int16)


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


def _is_other(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two frames are of different shots: most pixels are, and the light is another."""
    return _difference(one, other) >= LEVELS and _moved_light(one, other) >= SHARE


def _moved_light(one: np.ndarray, other: np.ndarray) -> float:
    """Which share of the pixels is in other bins of the histogram."""
    bins = 256 // BIN_LEVELS
    counts, others = (np.bincount(x.ravel() // BIN_LEVELS, minlength=bins) for x in (one, other))
    return float(np.abs(counts - others).sum()) / (2 * one.size)
