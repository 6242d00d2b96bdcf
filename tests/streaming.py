"""Checks that any layer or chain of the `init_state / step / flush` contract must pass."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from hypothesis import strategies as st
from torch import Tensor

from dragoman.encoders.streaming import StreamingLayer


def cuts(longest: int) -> st.SearchStrategy[list[int]]:
    """Lengths of the first pieces; pieces of 0 and 1 are common, and the rest of x is one last
    piece.
    """
    piece = st.one_of(st.sampled_from([0, 1, 1, 2]), st.integers(0, longest))
    return st.lists(piece, max_size=12)


def split(x: Tensor, lengths: Iterable[int]) -> list[Tensor]:
    """Cuts x along time as told, the rest last."""
    pieces, start = [], 0
    for length in lengths:
        pieces.append(x[:, start : start + length])
        start = min(start + length, x.shape[1])
    return [*pieces, x[:, start:]]


def stream(layer: StreamingLayer, pieces: Iterable[Tensor], batch: int) -> Tensor:
    """What the layer gives for the pieces in order and for the end of input."""
    state, outputs = layer.init_state(batch), []
    for piece in pieces:
        y, state = layer.step(piece, state)
        outputs.append(y)
    return torch.cat([*outputs, layer.flush(state)], dim=1)


def finished(layer: StreamingLayer, pieces: list[Tensor], batch: int) -> Tensor:
    """The same, where the last piece and the end of input come at once."""
    state, outputs = layer.init_state(batch), []
    for piece in pieces[:-1]:
        y, state = layer.step(piece, state)
        outputs.append(y)
    return torch.cat([*outputs, layer.finish(pieces[-1], state)], dim=1)


def relative_error(got: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected value; infinite when the shapes differ."""
    if got.shape != expected.shape:
        return float("inf")
    if expected.numel() == 0:
        return 0.0
    return ((got - expected).abs().max() / expected.abs().max()).item()


def check_streaming(
    layer: StreamingLayer, x: Tensor, lengths: Iterable[int], tolerance: float = 1e-5
) -> None:
    """In pieces of the given lengths and flushed, the layer gives what it gives for the whole."""
    pieces = split(x, lengths)
    with torch.no_grad():
        whole = layer(x)
        for way in (stream, finished):
            pieced = way(layer, pieces, x.shape[0])
            assert pieced.shape == whole.shape
            assert relative_error(pieced, whole) < tolerance


def arrivals(layer: StreamingLayer, x: Tensor) -> list[int]:
    """For each output given before the end: how many input frames had arrived, one by one."""
    state = layer.init_state(x.shape[0])
    counts: list[int] = []
    with torch.no_grad():
        for n in range(x.shape[1]):
            y, state = layer.step(x[:, n : n + 1], state)
            counts += [n + 1] * y.shape[1]
    return counts


def check_lookahead(layer: StreamingLayer, x: Tensor) -> None:
    """Output k comes exactly when the declared stride and lookahead say, and not before."""
    counts = arrivals(layer, x)
    assert len(counts) > 2
    assert counts == [k * layer.stride + layer.lookahead + 1 for k in range(len(counts))]


def check_rows_apart(layer: StreamingLayer, x: Tensor, garbage: Tensor, pieces: list[int]) -> None:
    """What other rows of the batch hold, NaN included, changes nothing in this one."""
    with torch.no_grad():
        alone = stream(layer, split(x, pieces), 1)
        spoilt = garbage.clone()
        spoilt[:, spoilt.shape[1] // 2 :] = float("nan")
        together = stream(layer, split(torch.cat([garbage, x, spoilt]), pieces), 3)
    assert relative_error(together[1:2], alone) < 1e-5
