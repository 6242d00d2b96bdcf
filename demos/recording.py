"""Keeps the sound of a live session in a file, as the session hears it.

Between a source and its session. It is 16 kHz, mono, with silence where a stream was away or the
session paused: so subtitles of the session fit it. What is unusual: each second is in the file at
once, in a form that players read; whoever kills the process loses the last second at most.
"""

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import av
import numpy as np

from dragoman.errors import InputError
from dragoman.stages.messages import SAMPLE_RATE_HZ

MOST_BYTES = 2**32 - 64


class _File(Protocol):
    def write(self, samples: np.ndarray) -> None:
        """Adds int16 samples [S]; raises OSError."""
        ...

    def close(self) -> None: ...


class Recording:
    """A file at ``path``, WAV or FLAC by its name, to be closed.

    Opening raises InputError where that cannot be written. Where it fails later, ``warn`` is told
    why, once, and the session goes on.
    """

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self._path, self._warn = path, warn
        self._waiting: list[np.ndarray] = []
        try:
            self._file: _File | None = _Flac(path) if path.suffix == ".flac" else _Wav(path)
        except OSError as error:
            raise InputError(f"cannot record to {path}: {error.strerror or error}") from error

    def of(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """``pieces``, float32 [S] in [-1, 1], which are recorded when they are taken."""
        for piece in pieces:
            self._waiting.append(piece)
            if sum(map(len, self._waiting)) >= SAMPLE_RATE_HZ:
                self._write()
            yield piece

    def close(self) -> None:
        """Writes what is left, and ends the file."""
        self._write()
        self._try(lambda file: file.close())
        self._file = None

    def _write(self) -> None:
        if self._waiting:
            samples = np.concatenate(self._waiting).clip(-1.0, 1.0)
            self._waiting = []
            self._try(lambda file: file.write((samples * 32_767).round().astype("<i2")))

    def _try(self, what: Callable[[_File], None]) -> None:
        if self._file is None:
            return
        try:
            what(self._file)
        except OSError as error:
            self._file = None
            why = getattr(error, "strerror", None) or error
            self._warn(f"{self._path} records no more ({why}): what it has can be played")


class _Wav:
    """What a WAV file has is told by its head, which is written anew behind every second."""

    def __init__(self, path: Path) -> None:
        self._out = path.open("wb", buffering=0)
        self._bytes = 0
        self._write_head()

    def write(self, samples: np.ndarray) -> None:
        if self._bytes + samples.nbytes > MOST_BYTES:
            raise OSError("a WAV file has 4 GB at most, 37 hours: name a .flac")
        self._out.seek(0, os.SEEK_END)
        self._out.write(samples.tobytes())
        self._bytes += samples.nbytes
        self._write_head()

    def close(self) -> None:
        self._out.close()

    def _write_head(self) -> None:
        rate = SAMPLE_RATE_HZ
        head = struct.pack(
            "<4sI8sIHHIIHH4sI", b"RIFF", 36 + self._bytes, b"WAVEfmt ", 16,
            1, 1, rate, 2 * rate, 2, 16, b"data", self._bytes,
        )  # fmt: skip
        self._out.seek(0)
        self._out.write(head)


class _Flac:
    """A FLAC file is frames that each say what they are; its head need not know how many."""

    def __init__(self, path: Path) -> None:
        path.touch()  # raises what the system says, which FFmpeg does not
        self._container = av.open(str(path), "w", format="flac", options={"flush_packets": "1"})
        self._track = self._container.add_stream("flac", rate=SAMPLE_RATE_HZ, layout="mono")

    def write(self, samples: np.ndarray) -> None:
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        self._container.mux(self._track.encode(frame))

    def close(self) -> None:
        self._container.mux(self._track.encode(None))
        self._container.close()
