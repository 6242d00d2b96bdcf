"""What can be captioned from Python, as the pieces of sound that a session takes.

In front of `dragoman.captioner`. A file goes through the reader of the command line, pictures
included; an array or an iterator is for programs that have sound of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from dragoman.errors import InputError

if TYPE_CHECKING:
    from dragoman.stages.messages import Picture

Samples: TypeAlias = npt.NDArray[np.floating | np.integer]
Source: TypeAlias = str | Path | Samples | Iterable[Samples]
SAMPLE_RATE_HZ = 16_000


@dataclass(frozen=True)
class Opened:
    """A source that can be read: ``pieces`` are float32 [S], mono, at 16 kHz.

    ``frames`` are the pictures of a video, None where there can be none.
    """

    pieces: Iterable[npt.NDArray[np.float32]]
    frames: Iterable[Picture] | None = None


def open_source(source: Source, language: str, rate_hz: int = SAMPLE_RATE_HZ) -> Opened:
    """Opens a media file, an array of samples, or an iterator of such arrays.

    Samples are mono [S], at ``rate_hz``: floats in [-1, 1], or int16. ``language`` chooses among a
    file's sound tracks. Raises InputError for a file that cannot be read, ValueError for samples of
    another form (for those of an iterator: when they come).
    """
    if isinstance(source, (str, Path)):
        from dragoman.pipeline.frames import read_frames
        from dragoman.pipeline.media import read_audio

        return Opened(read_audio(source, language=language), read_frames(source))
    if rate_hz <= 0:
        raise ValueError(f"rate_hz is {rate_hz}: give the number of samples a second")
    if isinstance(source, np.ndarray):
        return Opened(_resampled([_mono(cast("Samples", source))], rate_hz))
    if not hasattr(source, "__iter__"):
        raise InputError(
            f"cannot caption a {type(source).__name__}: give the path of a file, an array of "
            "samples, or an iterator of such arrays"
        )
    return Opened(_resampled(map(_mono, source), rate_hz))


def _mono(samples: Samples) -> npt.NDArray[np.float32]:
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise ValueError(
            f"samples have the shape {list(samples.shape)}, expected [S]: give one channel, such "
            "as samples[:, 0]"
        )
    if samples.dtype == np.int16:
        return np.divide(samples, 32_768, dtype=np.float32)
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(
            f"samples are {samples.dtype}, expected floats in [-1, 1] or int16: convert them"
        )
    return samples.astype(np.float32)


def _resampled(
    pieces: Iterable[npt.NDArray[np.float32]], rate_hz: int
) -> Iterator[npt.NDArray[np.float32]]:
    if rate_hz == SAMPLE_RATE_HZ:
        yield from pieces
        return
    from dragoman.pipeline.resampling import Resampler

    resampler = Resampler(rate_hz)
    for piece in pieces:
        yield resampler.step(piece)
    yield resampler.flush()
