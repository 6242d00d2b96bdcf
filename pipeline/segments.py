"""Finds the speech in a stream of chunks, and cuts the sound of a file into whole segments.

Between a source and what captions it: sessions send pieces of speech as they come, the workers of a
batch get a segment in one piece, with the pictures it is about. Both have the same segmenter: a
segment of a file begins and ends where it would live, and shows the same.
"""

import logging
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import numpy as np

from dragoman.pipeline.reel import Warn, illustrated
from dragoman.stages.chunk import Chunker
from dragoman.stages.contract import Stage
from dragoman.stages.messages import Chunk, Picture, SessionOptions, Speech

log = logging.getLogger(__name__)


def segments(
    pieces: Iterable[np.ndarray],
    stage: Stage[Chunk, Speech, Any],
    options: SessionOptions,
    pictures: Iterable[Picture] | None = None,
    warn: Warn = log.warning,
) -> Generator[Speech, None, None]:
    """The segments of a stream, one after the other; ``warn`` hears why pictures ended early."""
    chunks = _chunks(pieces, options)
    if pictures is not None:
        chunks = illustrated(chunks, pictures, threading.Event(), warn)
    segment: list[Speech] = []
    for part in parts(chunks, stage, options):
        segment.append(part)
        if part.closes:
            yield _joined(segment)
            segment = []


def _joined(segment: list[Speech]) -> Speech:
    first, samples = segment[0], np.concatenate([part.samples for part in segment])
    return Speech(first.segment, first.start, samples, True, True, pictures=first.pictures)


def _chunks(pieces: Iterable[np.ndarray], options: SessionOptions) -> Iterator[Chunk]:
    chunker = Chunker()
    state = chunker.init_state(options)
    for piece in pieces:
        chunks, state = chunker.step(piece, state)
        yield from chunks
    yield from chunker.flush(state)


def parts(
    chunks: Iterable[Chunk], stage: Stage[Chunk, Speech, Any], options: SessionOptions
) -> Iterator[Speech]:
    """The pieces of speech in ``chunks``, and what is left of them in the end."""
    state = stage.init_state(options)
    for chunk in chunks:
        out, state = stage.step(chunk, state)
        yield from out
    yield from stage.flush(state)
