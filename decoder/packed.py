"""Packed sequences: what many sequences need to share one pass over the weights.

`LanguageModel.answer_together` uses it. The new positions of all sequences form one long row,
without padding. Everything but attention works on each position by itself and needs no change.
Attention runs for each sequence with its own cache and its own view, so sequences of any lengths go
together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from dragoman.decoder.alignment import Heads, Noted, Watching
from dragoman.decoder.cache import KVCache
from dragoman.decoder.layers import View


@dataclass(frozen=True)
class Request:
    """New positions of one sequence, of which the last ``wanted`` are to be answered.

    cache: of one row; ids: int [1, L]; embeddings: float [1, L, D].
    heads: where there are any, the answer is not logits but what these heads see (see
        `LanguageModel.watch`), and the cache stays as it is.
    """

    cache: KVCache
    ids: Tensor
    embeddings: Tensor
    wanted: int
    heads: Heads = ()

    @property
    def length(self) -> int:
        return self.ids.shape[1]


class Caches:
    """The caches of a pass, written to as one: keys and values come back for each sequence."""

    def __init__(self, requests: Sequence[Request]):
        self._caches = [request.cache for request in requests]
        self._lengths = [request.length for request in requests]
        self.plan = self._caches[0].plan

    def write(
        self, layer: int, keys: Tensor, values: Tensor
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """As `KVCache.write`, of keys and values [1, N_kv, sum of L, H]."""
        parts = zip(
            torch.split(keys, self._lengths, 2), torch.split(values, self._lengths, 2), strict=True
        )
        written = [
            cache.write(layer, *part) for cache, part in zip(self._caches, parts, strict=True)
        ]
        every_key, every_value = zip(*written, strict=True)
        return every_key, every_value

    def advance(self) -> None:
        """Count the written positions as filled."""
        for cache, length in zip(self._caches, self._lengths, strict=True):
            cache.advance(length)


@dataclass(frozen=True)
class Rows(View):
    """The views of several sequences, whose queries stand behind one another; each with the place
    of its sequence among those of the pass.
    """

    views: tuple[tuple[int, View], ...] = ()

    @classmethod
    def of(cls, views: Sequence[tuple[int, View]]) -> "Rows":
        cos = torch.cat([view.cos for _, view in views], dim=1)
        sin = torch.cat([view.sin for _, view in views], dim=1)
        return cls(cos, sin, None, views=tuple(views))

    def mix(self, queries: Tensor, keys: Any, values: Any) -> Tensor:
        """As `View.mix`, queries [1, N, sum of L, H] against the keys and values of each: what
        `Caches.write` gave, a sequence of tensors.
        """
        pieces = torch.split(queries, [view.cos.shape[1] for _, view in self.views], dim=2)
        mixed = [
            view.mix(piece, keys[place], values[place])
            for piece, (place, view) in zip(pieces, self.views, strict=True)
        ]
        return torch.cat(mixed, dim=2)

    def watching(
        self, layers: Sequence[int], requests: Sequence[Request], noted: Sequence[Noted]
    ) -> "Rows":
        """The same for ``layers``, where the heads of each request are ``noted``."""
        views = tuple(
            (at, Watching.of(view, layers, requests[at].heads, requests[at].wanted, noted[at]))
            for at, view in self.views
        )
        return replace(self, views=views)


def in_a_row(requests: Sequence[Request]) -> tuple[Tensor, Tensor]:
    """All new positions behind one another: embeddings [1, sum of L, D], ids [1, sum of L]."""
    embeddings = torch.cat([request.embeddings for request in requests], dim=1)
    return embeddings, torch.cat([request.ids for request in requests], dim=1)


def places(requests: Sequence[Request]) -> list[int]:
    """Where in the long row the positions stand that are to be answered."""
    ends = accumulate(request.length for request in requests)
    return [
        place
        for end, request in zip(ends, requests, strict=True)
        for place in range(end - request.wanted, end)
    ]
