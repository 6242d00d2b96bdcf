"""Lets a live session pause: sound that has a clock goes on as silence, a file waits.

Between a source and its session, where there are keys to pause by. Of a microphone or a live stream
nothing is held back, and nothing that was said meanwhile is heard or recorded; times stay those of
the clock. A file goes on where it was. So its pieces are given out in their time here, as the
session would do it: a clock that went on in the pause would hurry afterwards.
"""

import threading
import time
from collections.abc import Iterable, Iterator

import numpy as np

from dragoman.pipeline.session import Pace
from dragoman.stages.messages import CHUNK_SAMPLES, SAMPLE_RATE_HZ


class Pausing:
    """The ``pieces`` of a source, float32 [S] at 16 kHz, at its ``pace``; to be iterated over once.

    Whoever takes them keeps to the pace `Pausing.pace`.
    """

    def __init__(self, pieces: Iterable[np.ndarray], pace: Pace) -> None:
        self._pieces, self._pace = pieces, pace
        self.pace: Pace = "fast" if pace == "fast" else "live"
        self.paused = False
        self._stopped = False
        self._changed = threading.Condition()

    def toggle(self) -> None:
        """Pauses, or goes on."""
        with self._changed:
            self.paused = not self.paused
            self._changed.notify_all()

    def stop(self) -> None:
        """Ends it, also in a pause."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[np.ndarray]:
        if self._pace != "live":
            yield from self._held_back()
            return
        for piece in self._pieces:
            yield np.zeros_like(piece) if self.paused else piece

    def _held_back(self) -> Iterator[np.ndarray]:
        """Pieces of at most a chunk, each when it would be spoken, or at once."""
        due = time.monotonic()
        for piece in self._pieces:
            for at in range(0, len(piece), CHUNK_SAMPLES):
                part = piece[at : at + CHUNK_SAMPLES]
                due = self._wait(due)
                if self._stopped:
                    return
                yield part
                due += len(part) / SAMPLE_RATE_HZ

    def _wait(self, due: float) -> float:
        """Returns at the time ``due``, or as much later as a pause lasts: when that was due."""
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                if self.paused:
                    self._changed.wait()
                    due += time.monotonic() - now
                elif self._pace == "fast" or now >= due:
                    break
                else:
                    self._changed.wait(due - now)
        return due
