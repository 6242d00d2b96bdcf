"""Stages without a model: captions tell how much was heard, marked samples make them fail."""

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dragoman.pipeline.recipes import Recipe
from dragoman.stages.illustrate import IllustrateStage
from dragoman.stages.messages import (
    CHUNK_SAMPLES,
    Caption,
    Chunk,
    Picture,
    SoftTokens,
    Speech,
    Text,
    VideoFrame,
)

POISON = 0.875  # a sample value at which the encoder fails
CHUNKS_A_SEGMENT = 5


class CountingSegments:
    """Everything is speech; a segment ends after five chunks, or with the stream."""

    def init_state(self, options):
        return None

    def step(self, item: Chunk, state):
        """A long chunk, of a session that lags, is several pieces; its update is the last one's."""
        pieces = []
        for start in range(item.start, item.end, CHUNK_SAMPLES):
            index = start // CHUNK_SAMPLES
            place = index % CHUNKS_A_SEGMENT
            piece = Speech(
                segment=index // CHUNKS_A_SEGMENT,
                start=start,
                samples=item.samples[start - item.start :][:CHUNK_SAMPLES],
                opens=place == 0,
                closes=place == CHUNKS_A_SEGMENT - 1,
                late=item.late or start + CHUNK_SAMPLES < item.end,
            )
            pieces.append(piece)
            state = None if piece.closes else piece
        return pieces, state

    def flush(self, state):
        if state is None:
            return []
        return [
            replace(
                state,
                start=state.end,
                samples=np.zeros(0, np.float32),
                opens=False,
                closes=True,
                late=False,
            )
        ]


class CountingTokens:
    """A token for each chunk of a piece, [K, 1]: its mean. The state counts the pieces so far."""

    def init_state(self, options):
        return 0

    def step(self, item: Speech, state):
        if POISON in item.samples:
            raise ValueError(f"poison at piece {state}")
        count = max(1, -(-len(item.samples) // CHUNK_SAMPLES))
        tokens: Any = np.full((count, 1), item.samples.mean() if len(item.samples) else 0.0)
        made = SoftTokens(
            item.segment, item.end, tokens, item.opens, item.closes, not item.late, item.start
        )
        return [made], state + 1

    def flush(self, state):
        return []


@dataclass
class Deadly(CountingTokens):
    """Its process dies at a poisoned sample."""

    def step(self, item, state):
        if POISON in item.samples:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(item, state)


@dataclass
class CountingCaptions:
    """A word a token; all words but the newest are committed. ``delay_s`` is spent on an update."""

    delay_s: float = 0.0
    retracts: bool = False
    tail_in_final: bool = False

    def init_state(self, options):
        return options, []

    def step(self, item: SoftTokens, state):
        options, words = state
        words = [] if item.opens else words
        words = [*words, *(f"w{len(words) + more}" for more in range(len(item.tokens)))]
        if not (item.update or item.closes):
            return [], (options, words)
        time.sleep(self.delay_s)
        final = item.closes
        split = len(words) if final and not self.tail_in_final else len(words) - 1
        committed = " ".join(words[:split])
        if self.retracts and split == 3:
            committed = committed.replace("w0", "W0")
        text = Text(committed, " ".join(["", *words[split:]]) if words[split:] else "")
        caption = Caption(
            "final" if final else "partial",
            item.segment,
            item.segment * CHUNKS_A_SEGMENT * CHUNK_SAMPLES,
            item.end,
            options.language,
            options.target_language,
            text,
            Text(text.committed.upper(), text.tail.upper()),
        )
        return [caption], (options, words)

    def flush(self, state):
        return []


@dataclass
class Making:
    """Makes ``stage`` in the process that asks for it, or fails to."""

    stage: Any
    error: Exception | None = None

    def __call__(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.stage


def bursts() -> np.ndarray:
    """Two seconds of buzz, silence, a second of buzz, silence: two segments for a detector."""
    time_s = np.arange(2 * 16_000) / 16_000
    waves = [np.sin(2 * np.pi * 150 * k * time_s) / k for k in range(1, 20)]
    buzz, quiet = (0.2 * np.sum(waves, 0)).astype(np.float32), np.zeros(16_000, np.float32)
    return np.concatenate([quiet, buzz, quiet, buzz[:16_000], quiet])


def bare(captions: Iterable[Caption]) -> list[Caption]:
    """Captions without what differs from session to session."""
    return [replace(caption, session="", latency={}) for caption in captions]


def fakes(**captions) -> tuple[Recipe, ...]:
    return (
        Recipe("segment", Making(CountingSegments())),
        Recipe("encode", Making(CountingTokens())),
        Recipe("translate", Making(CountingCaptions(**captions))),
    )


def tone(chunks: float, value: float = 0.1) -> np.ndarray:
    return np.full(round(chunks * CHUNK_SAMPLES), value, np.float32)


def brightness(picture: Picture) -> Any:
    assert picture.pixels is not None
    return picture.pixels.mean()


class Looking:
    """Looks at pictures: one of the value POISON (in 255ths) makes it fail."""

    def init_state(self, options):
        return 0

    def step(self, item: Speech, state):
        for picture in item.pictures:
            assert picture.pixels is not None
            if picture.pixels.max() == round(255 * POISON):
                raise ValueError(f"poison after {state} pictures")
        seen = tuple(
            replace(picture, pixels=None, tokens=brightness(picture)) for picture in item.pictures
        )
        return [replace(item, pictures=seen)], state + len(seen)

    def flush(self, state):
        return []


class NamingTokens(CountingTokens):
    """Hands pictures on, as the encoder does."""

    def step(self, item: Speech, state):
        (made,), state = super().step(item, state)
        return [replace(made, pictures=item.pictures)], state


class NamingCaptions(CountingCaptions):
    """Captions name their frames; ``size`` tells what was seen in them."""

    def init_state(self, options):
        return super().init_state(options), None

    def step(self, item: SoftTokens, state):
        inner, first = state
        first = item if item.opens else first
        out, inner = super().step(item, inner)
        frames = tuple(picture.frame for picture in first.pictures)
        seen = " ".join(f"{picture.tokens}" for picture in first.pictures)
        told = [replace(c, start=first.start, frames=frames, size=seen) for c in out]
        return told, (inner, first)


def illustrated() -> tuple[Recipe, ...]:
    """A chain in which captions tell what was looked at (``size``) and what was named."""
    return (
        Recipe("segment", Making(IllustrateStage(CountingSegments()))),
        Recipe("encode", Making(NamingTokens())),
        Recipe("translate", Making(NamingCaptions())),
    )


def looking(error: Exception | None = None) -> Recipe:
    return Recipe("look", Making(Looking(), error), cpus=0)


def picture(time_s: float, value: int = 100) -> Picture:
    return Picture(VideoFrame(time_s, round(25 * time_s)), np.full((4, 4, 3), value, np.uint8))
