"""Gives every segment the pictures it is about: what was on the screen when it began.

Wraps the segmenter, so that pictures travel with the speech they belong to, and only those that a
segment needs travel at all. A segment is known a moment after it began (the detector waits, and
some audio before it belongs to it): the picture that was current at its beginning comes first, and
if another one has come up by then, the newest comes second. What changes later in a segment belongs
to the next one, because the prompt's beginning is in the cache by then.

Unusual: the choice depends on the times of pictures and chunks alone, never on the clock.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from dragoman.stages.contract import Stage
from dragoman.stages.messages import Chunk, Picture, SessionOptions, Speech

REMEMBERED = 8  # pictures a second apart at least: more than the time back to a segment's beginning


@dataclass
class IllustrateState:
    """The segmenter's state, and the newest pictures, oldest first."""

    segments: Any
    pictures: deque[Picture] = field(default_factory=lambda: deque(maxlen=REMEMBERED))


class IllustrateStage:
    """Stage[Chunk, Speech, IllustrateState] around another stage from chunks to speech."""

    def __init__(self, segments: Stage[Chunk, Speech, Any]) -> None:
        self._segments = segments

    def init_state(self, options: SessionOptions) -> IllustrateState:
        return IllustrateState(self._segments.init_state(options))

    def step(self, item: Chunk, state: IllustrateState) -> tuple[list[Speech], IllustrateState]:
        """Raises ValueError for pictures that are not in the order of their times."""
        for picture in item.pictures:
            _check_order(picture, state)
            state.pictures.append(picture)
        if item.pictures:
            item = replace(item, pictures=())
        out, state.segments = self._segments.step(item, state.segments)
        return _illustrated(out, state.pictures) if state.pictures else out, state

    def flush(self, state: IllustrateState) -> list[Speech]:
        out = self._segments.flush(state.segments)
        return _illustrated(out, state.pictures) if state.pictures else out


def choose(pictures: Iterable[Picture], start: int) -> tuple[Picture, ...]:
    """Of ``pictures``, in order, the one current at sample ``start`` and the newest one after it.

    Where none is as old as that, the oldest takes its place.
    """
    known = list(pictures)
    current = max(sum(picture.start <= start for picture in known) - 1, 0)
    return tuple(known[current : current + 1] + known[current + 1 :][-1:])


def _check_order(picture: Picture, state: IllustrateState) -> None:
    if state.pictures and picture.start < state.pictures[-1].start:
        raise ValueError(
            f"a picture at {picture.frame.time} s came after one at "
            f"{state.pictures[-1].frame.time} s: feed pictures in the order of their times"
        )


def _illustrated(pieces: list[Speech], pictures: Iterable[Picture]) -> list[Speech]:
    return [
        replace(piece, pictures=choose(pictures, piece.start)) if piece.opens else piece
        for piece in pieces
    ]
