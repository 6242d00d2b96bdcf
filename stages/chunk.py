"""Cuts a stream into chunks of 160 ms: what one soft token of the encoder stands for.

First step of the flow, before :mod:`stages.segment`. Sources deliver pieces of any length; from
here on every chunk but the last has exactly 2 560 samples, and every time is a sample index.
"""

from dataclasses import dataclass, field

import numpy as np

from dragoman.stages.messages import CHUNK_SAMPLES, Chunk, SessionOptions


@dataclass
class ChunkState:
    """``rest``: float32 [S < 2 560], heard, not yet sent; ``start``: index of its first sample."""

    start: int = 0
    rest: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))


class Chunker:
    """Stage[np.ndarray, Chunk, ChunkState]: samples float32 [S] at 16 kHz in, chunks out."""

    def init_state(self, options: SessionOptions) -> ChunkState:
        """The state of a new stream; ``start`` may be set before the first step."""
        return ChunkState()

    def step(self, item: np.ndarray, state: ChunkState) -> tuple[list[Chunk], ChunkState]:
        """Takes samples float32 [S] in [-1, 1], any S; raises ValueError for any other kind."""
        if item.ndim != 1 or item.dtype != np.float32:
            raise ValueError(
                f"expected mono samples float32 [S], got {item.dtype} {list(item.shape)}: "
                "average the channels and scale integers into [-1, 1] first"
            )
        samples = np.concatenate([state.rest, item])
        whole = len(samples) - len(samples) % CHUNK_SAMPLES
        chunks = [
            Chunk(state.start + at, samples[at : at + CHUNK_SAMPLES])
            for at in range(0, whole, CHUNK_SAMPLES)
        ]
        return chunks, ChunkState(state.start + whole, samples[whole:].copy())

    def flush(self, state: ChunkState) -> list[Chunk]:
        """What is left, as one shorter chunk, or nothing."""
        return [Chunk(state.start, state.rest)] if len(state.rest) else []
