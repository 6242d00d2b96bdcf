"""The sound of a page's recordings, kept for the visitor who spoke: a WAV file, and its segments.

Between a recording's feed and the session that hears it. Sound lies at its place in the whole
transcript, so that the subtitles fit it, and what was not heard is silence. It is gone when the
visitor clears the transcript or is given up.

What is unusual: two recordings of one page may be heard at once, the end of one and the beginning
of the next. Each writes at places of its own.
"""

import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from io import BufferedRandom
from pathlib import Path

import numpy as np

from dragoman.stages.messages import SAMPLE_RATE_HZ

MOST_SAMPLES = 2 * 3_600 * SAMPLE_RATE_HZ
PIECE_BYTES = 2**18
BYTES = 2  # a sample, int16

Wav = tuple[int, Iterator[bytes]]  # the length of a file in bytes, and its parts


class Recorded:
    """Sound int16, mono, 16 kHz in the file ``path``; ``has_room`` says whether so many more bytes
    may be written.
    """

    def __init__(self, path: Path, has_room: Callable[[int], bool]) -> None:
        self.samples = 0
        self.full = False  # what came later is not in it
        self._path, self._has_room = path, has_room
        self._file: BufferedRandom | None = None
        self._closed = False
        self._lock = threading.Lock()

    def heard(self, pieces: Iterable[np.ndarray], start: int) -> Iterator[np.ndarray]:
        """``pieces`` float32 [S] as they are taken, written from sample ``start`` on."""
        for piece in pieces:
            self._write(piece, start)
            start += len(piece)
            yield piece

    def read(self, start: int, end: int) -> np.ndarray:
        """Samples float32 [S] in [-1, 1]; fewer where there are no more."""
        data = self._bytes(BYTES * start, BYTES * (end - start))
        return (np.frombuffer(data, "<i2") / 32_768).astype(np.float32)

    def wav(self, start: int = 0, end: int | None = None) -> Wav:
        """A WAV file of these samples, by default all that there are now."""
        size = BYTES * max(0, min(self.samples, end or self.samples) - start)
        return len(_header(size)) + size, self._parts(BYTES * start, size)

    def close(self) -> None:
        """Forgets the sound; what is still heard is not written."""
        with self._lock:
            self._closed = True
            if self._file is not None:
                self._file.close()
                self._file = None
                self._path.unlink(missing_ok=True)

    def _write(self, piece: np.ndarray, start: int) -> None:
        data = (np.clip(piece, -1.0, 1.0) * 32_767).astype("<i2").tobytes()
        end = start + len(piece)
        with self._lock:
            self.full = self.full or end > MOST_SAMPLES or not self._has_room(len(data))
            if self._closed or self.full:
                return
            if self._file is None:
                self._file = self._path.open("w+b")
            self._file.seek(BYTES * start)
            self._file.write(data)
            self.samples = max(self.samples, end)

    def _bytes(self, at: int, count: int) -> bytes:
        with self._lock:
            if self._file is None:
                return b""
            self._file.seek(at)
            return self._file.read(count)

    def _parts(self, begin: int, size: int) -> Iterator[bytes]:
        yield _header(size)
        for at in range(0, size, PIECE_BYTES):
            count = min(PIECE_BYTES, size - at)
            yield self._bytes(begin + at, count).ljust(count, b"\0")  # it may be cleared meanwhile


def _header(size: int) -> bytes:
    """Of a WAV file with ``size`` bytes of samples."""
    rate = SAMPLE_RATE_HZ
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, BYTES * rate, BYTES, 8 * BYTES)
    return (
        struct.pack("<4sI4s", b"RIFF", 36 + size, b"WAVE")
        + form
        + struct.pack("<4sI", b"data", size)
    )
