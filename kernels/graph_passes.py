"""A pass of the decoder as a recording on a GPU, over caches that have slots.

Used by :mod:`kernels.graphed`. A pass is rounded up to one that was recorded: more sequences (they
use the spare slot), more positions (behind the real ones, which never see them), more keys
(masked). What is computed is the model's own code.

Unusual: the per-layer table stays on the host. The rows of a pass are gathered in pinned memory
and copied from there while the card is busy, and the recording sees them as a small table.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dragoman.decoder import LanguageModel, layers
from dragoman.decoder.model import select
from dragoman.decoder.packed import Request
from dragoman.decoder.slices import Plan
from dragoman.kernels.graphs import record, rounded, turn
from dragoman.kernels.slots import SlotCache, Slots

MOST_POSITIONS = 2048  # of all sequences of a recorded pass
MOST_ANSWERED = 1024  # positions with logits: a megabyte each
LEAST_KEYS = 256


@dataclass(frozen=True)
class Kind:
    """What a recorded pass is of: so many sequences with so many new positions each, of which the
    last, all or none are answered, over the first so many places of their slots.
    """

    sequences: int
    positions: int
    answered: int
    keys: int
    plan: Plan


def kind_of(requests: Sequence[Request]) -> Kind | None:
    """The least recorded pass that takes these requests; None where none does."""
    caches = [request.cache for request in requests]
    slots = [cache.slot for cache in caches if isinstance(cache, SlotCache)]
    alike = len({cache.plan for cache in caches}) == 1
    if len(set(slots)) < len(caches) or None in slots or not alike:
        return None
    sequences = rounded(len(requests))
    positions = rounded(max(request.length for request in requests))
    wanted = max(request.wanted for request in requests)
    answered = wanted if wanted <= 1 else positions
    needed = max(cache.length for cache in caches) + positions
    keys = max(LEAST_KEYS, rounded(needed))
    keys = min(keys, caches[0].capacity)
    fits = sequences * positions <= MOST_POSITIONS and sequences * answered <= MOST_ANSWERED
    if not fits or needed > keys:
        return None
    return Kind(sequences, positions, answered, keys, caches[0].plan)


class Pass:
    """A pass of one kind, over memory of its own and the slots; ``logits`` [S, answered, V]."""

    def __init__(self, model: LanguageModel, slots: Slots, kind: Kind) -> None:
        S, L, W, device = kind.sequences, kind.positions, kind.answered, slots.device
        self._kind, self._slots, self._table = kind, slots, model.embed_tokens_per_layer
        self._numbers = _Sent(torch.zeros(S, 2 + L + (W == 1), dtype=torch.long), device)
        wide = S * L, self._table.embedding_dim
        self._told = _Sent(torch.zeros(wide, dtype=self._table.weight.dtype), device)
        self._embeddings = torch.zeros(S * L, model.config.hidden_size, dtype=model.dtype)
        self._embeddings = self._embeddings.to(device)
        vocab = model.config.vocab_size
        self.logits = slots.logits(S * W, vocab).view(S, W, vocab)
        self._model = _with_table(model, layers.LayerTable.from_pretrained(self._told.there))
        self._run = record(self._work, device)

    def run(self, requests: Sequence[Request]) -> list[Tensor]:
        """Logits [wanted, V] for each; positions of the caches are written, not counted."""
        with turn:
            self._tell(requests)
            self._run()
            return [self._answer(row, request) for row, request in enumerate(requests)]

    def _tell(self, requests: Sequence[Request]) -> None:
        count = sum(request.length for request in requests)
        ids = torch.cat([request.ids[0] for request in requests]).cpu()
        torch.cat([request.embeddings[0] for request in requests], out=self._embeddings[:count])
        known = (ids >= 0) & (ids < self._table.num_embeddings)
        self._told.begin()
        self._table.gather(torch.where(known, ids, 0), self._told.here[:count])
        self._told.send(count)
        self._numbers.begin()
        self._numbers.here.copy_(torch.tensor(self._rows(requests)))
        self._numbers.send(self._kind.sequences)

    def _rows(self, requests: Sequence[Request]) -> list[list[int]]:
        """For each sequence its slot, its place there, where its positions lie in the pass, and
        the one that is answered if one is. Positions behind the real ones repeat the first.
        """
        kind, rows, first = self._kind, list[list[int]](), 0
        for request in requests:
            lie = [*range(first, first + request.length)]
            first += request.length
            lie += lie[:1] * (kind.positions - request.length)
            last = [request.length - 1] if kind.answered == 1 else []
            assert isinstance(request.cache, SlotCache) and request.cache.slot is not None
            rows.append([request.cache.slot, request.cache.length, *lie, *last])
        return rows + [[0] * len(rows[0])] * (kind.sequences - len(rows))

    def _answer(self, row: int, request: Request) -> Tensor:
        if self._kind.answered <= 1:
            return self.logits[row, : request.wanted].clone()
        return self.logits[row, request.length - request.wanted : request.length].clone()

    @torch.inference_mode()
    def _work(self) -> None:
        kind, model, numbers = self._kind, self._model, self._numbers.there
        S, L, W = kind.sequences, kind.positions, kind.answered
        slot, start, lie, last = numbers[:, 0], numbers[:, 1:2], numbers[:, 2 : 2 + L], None
        places = start + torch.arange(L, device=numbers.device)
        views = narrowed = self._views(places)
        if W < L:
            last = numbers[:, 2 + L :]
            narrowed = self._views(select(places, last)) if W else views
        into = _Into(self._slots, kind, slot, places)
        embeddings = self._embeddings.index_select(0, lie.flatten()).view(S, L, -1)
        streams = model._run(embeddings, lie, views, narrowed, last, kind.plan, into)
        self.logits.copy_(model._logits(streams))

    def _views(self, places: Tensor) -> Any:
        keys = torch.arange(self._kind.keys, device=places.device).expand(len(places), -1)
        return self._model._views(
            places, keys, torch.ones_like(keys, dtype=torch.bool), self._dtype
        )

    @property
    def _dtype(self) -> torch.dtype:
        return self._embeddings.dtype


class _Sent:
    """A tensor on the host, pinned, and its copy on the device."""

    def __init__(self, here: Tensor, device: torch.device) -> None:
        cuda = device.type == "cuda"
        self.here = here.pin_memory() if cuda else here
        self.there = here.to(device) if cuda else torch.zeros_like(here)
        self._sent = torch.cuda.Event() if cuda else None

    def begin(self) -> None:
        """Waits until what was sent last has gone, so that it may be written over."""
        if self._sent is not None:
            self._sent.synchronize()

    def send(self, rows: int) -> None:
        """The first rows go; what is asked of the device next finds them there."""
        self.there[:rows].copy_(self.here[:rows], non_blocking=True)
        if self._sent is not None:
            self._sent.record()


class _Into:
    """Writes keys and values of a pass into the slots, and reads what its queries may see."""

    def __init__(self, slots: Slots, kind: Kind, slot: Tensor, places: Tensor) -> None:
        heads, room = slots.config.num_key_value_heads, slots.capacity
        head = slot[:, None] * heads + torch.arange(heads, device=slot.device)
        self._rows = (head[:, :, None] * room + places[:, None]).flatten()
        self._slots, self._slot, self._keys = slots, slot, kind.keys

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        """As `KVCache.write`, for all sequences: [S, N_kv, L, H] -> [S, N_kv, keys, H]."""
        pair = self._slots.buffers(layer)
        for buffer, new in zip(pair, (keys, values), strict=True):
            width = buffer.shape[-1]
            buffer.view(-1, width).index_copy_(0, self._rows, new.reshape(-1, width))
        return tuple(every[:, :, : self._keys].index_select(0, self._slot) for every in pair)


def _with_table(model: LanguageModel, table: nn.Module) -> Any:
    """The same model, all of its weights shared, with another per-layer table."""
    twin = copy.copy(model)
    twin._modules = {**model._modules, "embed_tokens_per_layer": table}
    return twin
