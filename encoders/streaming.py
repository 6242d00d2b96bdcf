"""The contract of everything here that runs over time: `init_state / step / flush`.

Weights live in the layer; state lives with the caller, as a dataclass of batch-first tensors whose
size does not depend on how long the stream has run. Time is axis 1. For every way of cutting x into
pieces, the concatenated outputs of `step` and the one of `flush` equal `forward(x)`.

Unusual: states are plain data, so sessions can be batched from outside. `stack_states` joins the
states of several sessions into one batch and `split_state` takes them apart again. That needs equal
*phases* (buffers of equal length), not equal ages: what depends on age is counted per row. Sessions
fed whole chunks share a phase from their second on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

StateT = TypeVar("StateT")


class StreamingLayer(nn.Module, Generic[StateT]):
    """A layer that answers the same whether it is fed whole or in pieces.

    stride: input frames per output frame.
    lookahead: input frames that must exist past an output's first before it is given.
    """

    stride: int = 1
    lookahead: int = 0

    def init_state(
        self, batch: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> StateT:
        """State of `batch` new streams; device and dtype default to those of the weights."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """The whole input at once: [B, T, ...] to [B, T', ...]."""
        return self.finish(x, self.init_state(x.shape[0], x.device))

    def step(self, x: Tensor, state: StateT) -> tuple[Tensor, StateT]:
        """The next piece, maybe empty; gives every output whose inputs exist. Consumes `state`."""
        raise NotImplementedError

    def flush(self, state: StateT) -> Tensor:
        """Ends the input and gives what remains. Consumes `state`."""
        raise NotImplementedError

    def finish(self, x: Tensor, state: StateT) -> Tensor:
        """The last piece and the end of input at once: what `step` gives, then what `flush` does.

        Layers whose weights are heavy do both in one pass.
        """
        y, state = self.step(x, state)
        return torch.cat([y, self.flush(state)], dim=1)


def step_chain(
    layers: Sequence[StreamingLayer[Any]], x: Tensor, states: Sequence[Any]
) -> tuple[Tensor, tuple[Any, ...]]:
    """Feeds x through layers in order: the output and the new states, one for each layer."""
    after: list[Any] = []
    for layer, state in zip(layers, states, strict=True):
        x, state = layer.step(x, state)
        after.append(state)
    return x, tuple(after)


def flush_chain(layers: Sequence[StreamingLayer[Any]], states: Sequence[Any]) -> Tensor:
    """Ends a chain's input: each layer's remainder is stepped through the next, which then ends.

    So every layer pads its own input; feeding silence into the first would not be the same.
    """
    return finish_chain(layers[1:], layers[0].flush(states[0]), states[1:])


def finish_chain(layers: Sequence[StreamingLayer[Any]], x: Tensor, states: Sequence[Any]) -> Tensor:
    """Feeds x, the last piece, through layers in order and ends the input of each."""
    for layer, state in zip(layers, states, strict=True):
        x = layer.finish(x, state)
    return x


def stack_states(states: Sequence[StateT]) -> StateT:
    """Joins states along their rows, in order, into the state of one batch.

    Raises:
        ValueError: no states, or states in different phases (group them by `phase_of` first).
    """
    if not states:
        raise ValueError(
            "stack_states needs at least one state; got none. "
            "Skip the step when no session has input."
        )
    phases = {phase_of(state) for state in states}
    if len(phases) > 1:
        raise ValueError(
            f"stack_states needs states in one phase; got {len(phases)} phases among "
            f"{len(states)} states. Group sessions by phase_of(state): a session's first chunk "
            "differs from its later ones."
        )
    return cast(StateT, _stack(list(states)))


def split_state(state: StateT) -> list[StateT]:
    """Takes the state of a batch apart: one state of a single row each, sharing no memory."""
    return [cast(StateT, _pick(state, row)) for row in range(_rows(state))]


def phase_of(state: Any) -> tuple[Any, ...]:
    """What must agree for states to be stacked: each buffer's shape but its rows, each counter."""
    if isinstance(state, Tensor):
        return (*state.shape[1:], state.dtype, state.device)
    if isinstance(state, int):
        return (state,)
    return tuple(phase_of(part) for part in _parts(state))


def state_bytes(state: Any) -> int:
    """Bytes that the tensors of a state hold."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    return 0 if isinstance(state, int) else sum(state_bytes(part) for part in _parts(state))


def _parts(state: Any) -> list[Any]:
    if isinstance(state, tuple):
        return list(cast("tuple[Any, ...]", state))
    if is_dataclass(state):
        return [getattr(state, field.name) for field in fields(state)]
    raise TypeError(
        f"a state holds tensors, integers, tuples and dataclasses; got {type(state).__name__}"
    )


def _rebuild(like: Any, parts: list[Any]) -> Any:
    return tuple(parts) if isinstance(like, tuple) else type(like)(*parts)


def _stack(states: list[Any]) -> Any:
    first = states[0]
    if isinstance(first, Tensor):
        return torch.cat(states, dim=0)
    if isinstance(first, int):
        return first
    columns = zip(*(_parts(state) for state in states), strict=True)
    return _rebuild(first, [_stack(list(column)) for column in columns])


def _pick(state: Any, row: int) -> Any:
    if isinstance(state, Tensor):
        return state[row : row + 1].clone()
    if isinstance(state, int):
        return state
    return _rebuild(state, [_pick(part, row) for part in _parts(state)])


def _rows(state: Any) -> int:
    if isinstance(state, Tensor):
        return state.shape[0]
    return 0 if isinstance(state, int) else max((_rows(part) for part in _parts(state)), default=0)
