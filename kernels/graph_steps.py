"""A step of the encoder as a recording on a GPU: of streams that stand alike.

Used by :mod:`kernels.graphed`. Streams are rounded up to a power of two; what is computed is the
encoder's own code. Unusual: the states of streams come and go by copies, so they are as they are
everywhere else, and sessions join and leave between any two steps.
"""

from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from dragoman.encoders import EncoderState
from dragoman.kernels.graphs import record, rounded, turn


class Step:
    """A step of streams that stand alike, over memory of its own."""

    def __init__(self, encoder: Any, x: Tensor, state: EncoderState) -> None:
        """``encoder`` has the definition's `step`; x and ``state`` are an example."""
        self._encoder, rows = encoder, rounded(len(x))
        with torch.inference_mode(False):  # else it could not be written to outside that mode
            self._x = x.new_zeros(rows, *x.shape[1:])
            zeros = [t.new_zeros(rows, *t.shape[1:]) for t in tensors(state)]
        self._state = _rebuilt(state, zeros)
        self._after: Any = None
        self._run = record(self._work, x.device)

    def run(self, x: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """What `AudioEncoder.step` gives."""
        with turn:
            self._x[: len(x)] = x
            for to, of in zip(tensors(self._state), tensors(state), strict=True):
                to[: len(x)] = of
            self._run()
            y, after = self._after
            made = [tensor[: len(x)].clone() for tensor in tensors(after)]
            return y[: len(x)].clone(), _rebuilt(after, made)

    @torch.inference_mode()
    def _work(self) -> None:
        self._after = self._encoder.step(self._x, self._state)


def tensors(state: Any) -> list[Tensor]:
    """All tensors of a state, always in the same order."""
    if isinstance(state, Tensor):
        return [state]
    return [tensor for part in _parts(state) for tensor in tensors(part)]


def _rebuilt(like: Any, made: list[Tensor]) -> Any:
    """A state like another, of other tensors, which it takes from ``made`` in order."""
    if isinstance(like, Tensor):
        return made.pop(0)
    if isinstance(like, int):
        return like
    parts = [_rebuilt(part, made) for part in _parts(like)]
    return tuple(parts) if isinstance(like, tuple) else type(like)(*parts)


def _parts(state: Any) -> tuple[Any, ...]:
    if is_dataclass(state):
        return tuple(getattr(state, field.name) for field in fields(state))
    return state if isinstance(state, tuple) else ()
