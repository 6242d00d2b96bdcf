"""Models on a GPU: the passes of the decoder and the steps of the encoder as recordings.

`accelerate` gives a model on a GPU these classes, each a subclass of the one that it replaces; what
is computed is that one's own code. A pass is rounded up to one that was recorded: more sequences
(they use the spare slot), more positions (behind the real ones, which never see them), more keys
(masked). What does not fit a recording runs as it is defined.

Unusual: the per-layer table stays on the host. The rows of a pass are gathered in pinned memory
and copied from there while the card is busy, and the recording sees them as a small table.
"""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dragoman import decoder, encoders
from dragoman.decoder import KVCache, Slice, layers, storage
from dragoman.decoder.model import select
from dragoman.decoder.packed import Request
from dragoman.decoder.quantize import QuantizedLinear, QuantizedTokenTable
from dragoman.decoder.slices import Plan
from dragoman.encoders import EncoderState
from dragoman.encoders.streaming import phase_of
from dragoman.kernels.graphs import Recordings, record
from dragoman.kernels.serving import Keeping
from dragoman.kernels.slots import SlotCache, Slots

log = logging.getLogger(__name__)

MOST_POSITIONS = 2048  # of all sequences of a recorded pass
MOST_ANSWERED = 1024  # positions with logits: a megabyte each
LEAST_KEYS = 256
MOST_FRAMES = 160  # mel frames of a recorded step of the encoder


def replace(model: nn.Module) -> None:
    """Gives the modules of a model on a GPU these classes; bf12 becomes bf16 again, as unpacking
    takes a GPU longer than reading.
    """
    dtype = model.dtype if isinstance(model, decoder.LanguageModel) else None
    dtype = dtype or next(model.parameters()).dtype
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, QuantizedLinear | QuantizedTokenTable) and module.form == "bf12":
                setattr(parent, name, _unpacked(module, dtype))
    for module in model.modules():
        quick = QUICK.get(type(module))
        if quick is not None:
            module.__class__ = quick
            if isinstance(module, Keeping):
                module.begin()


def _unpacked(module: QuantizedLinear | QuantizedTokenTable, dtype: torch.dtype) -> nn.Module:
    numbers = storage.unpacked("bf12", module.weight, module.scale, dtype)
    outputs, inputs = numbers.shape
    if isinstance(module, QuantizedTokenTable):
        return layers.TokenTable.from_pretrained(numbers)
    with torch.device("meta"):
        linear = layers.Linear(inputs, outputs)
    linear.weight = nn.Parameter(numbers, requires_grad=False)
    return linear


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
    sequences = _rounded(len(requests))
    positions = _rounded(max(request.length for request in requests))
    wanted = max(request.wanted for request in requests)
    answered = wanted if wanted <= 1 else positions
    needed = max(cache.length for cache in caches) + positions
    keys = max(LEAST_KEYS, _rounded(needed))
    keys = min(keys, caches[0].capacity)
    fits = sequences * positions <= MOST_POSITIONS and sequences * answered <= MOST_ANSWERED
    if not fits or needed > keys:
        return None
    return Kind(sequences, positions, answered, keys, caches[0].plan)


class GraphedLanguageModel(decoder.LanguageModel, Keeping):
    """Passes over caches with slots are recordings."""

    def begin(self) -> None:
        self.recorded: Recordings[Pass] = Recordings()
        self._slots: Slots | None = None

    def new_cache(self, batch: int = 1, capacity: int = 256, size: Slice | None = None) -> KVCache:
        if batch != 1:
            return super().new_cache(batch, capacity, size)
        if self._slots is None:
            with torch.inference_mode(False):
                self._slots = Slots(self.config, self.dtype, self.device)
        return SlotCache(self._slots, capacity, size)

    @torch.inference_mode()
    def answer(self, embeddings: Tensor, ids: Tensor, cache: KVCache, wanted: int) -> Tensor:
        if ids.shape[0] == 1:
            found = self._replayed([Request(cache, ids, embeddings, wanted)])
            if found is not None:
                return found[0][None]
        return super().answer(embeddings, ids, cache, wanted)

    @torch.inference_mode()
    def answer_together(self, requests: Sequence[Request]) -> list[Tensor]:
        found = self._replayed(requests)
        return super().answer_together(requests) if found is None else found

    def _replayed(self, requests: Sequence[Request]) -> list[Tensor] | None:
        """The answers, by a recording; None where there is none for these requests."""
        for request in requests:
            self._admit(request.embeddings, request.ids, request.cache)
        kind, slots = kind_of(requests), self._slots
        if kind is None or slots is None:
            return None
        found = self.recorded.get(kind, lambda: Pass(self, slots, kind))
        if found is None:
            return None
        logits = found.run(requests)
        for request in requests:
            request.cache.advance(request.length)
        return logits


class Pass:
    """A pass of one kind, over memory of its own and the slots."""

    def __init__(self, model: GraphedLanguageModel, slots: Slots, kind: Kind) -> None:
        S, L, W, device = kind.sequences, kind.positions, kind.answered, slots.device
        self._kind, self._slots, self._table = kind, slots, model.embed_tokens_per_layer
        self._numbers = _Sent(torch.zeros(S, 2 + L + (W == 1), dtype=torch.long), device)
        wide = S * L, self._table.embedding_dim
        self._told = _Sent(torch.zeros(wide, dtype=self._table.weight.dtype), device)
        self._embeddings = torch.zeros(S * L, model.config.hidden_size, dtype=model.dtype)
        self._embeddings = self._embeddings.to(device)
        self._logits = torch.zeros(0)
        self._model = _with_table(model, layers.LayerTable.from_pretrained(self._told.there))
        self._run = record(self._work, device)

    def run(self, requests: Sequence[Request]) -> list[Tensor]:
        """Logits [wanted, V] for each; positions of the caches are written, not counted."""
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
        self._run()
        return [self._answer(row, request) for row, request in enumerate(requests)]

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
            return self._logits[row, : request.wanted].clone()
        return self._logits[row, request.length - request.wanted : request.length].clone()

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
        self._logits = model._logits(streams)

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


def _with_table(model: GraphedLanguageModel, table: nn.Module) -> Any:
    """The same model, all of its weights shared, with another per-layer table."""
    twin = copy.copy(model)
    twin._modules = {**model._modules, "embed_tokens_per_layer": table}
    return twin


class GraphedAudioEncoder(encoders.AudioEncoder, Keeping):
    """Steps of few frames are recordings, of one, two, four, ... streams."""

    def begin(self) -> None:
        self.recorded: Recordings[Step] = Recordings()

    def step(self, x: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        if not 0 < x.shape[1] <= MOST_FRAMES or torch.is_grad_enabled():
            return super().step(x, state)
        kind = _rounded(len(x)), x.shape[1], phase_of(state)
        found = self.recorded.get(kind, lambda: Step(super(GraphedAudioEncoder, self), x, state))
        return super().step(x, state) if found is None else found.run(x, state)


class Step:
    """A step of streams that stand alike, over memory of its own."""

    def __init__(self, encoder: Any, x: Tensor, state: EncoderState) -> None:
        """``encoder`` has the definition's `step`; x and ``state`` are an example."""
        self._encoder, rows = encoder, _rounded(len(x))
        self._x = x.new_zeros(rows, *x.shape[1:])
        self._state = _rebuilt(state, [t.new_zeros(rows, *t.shape[1:]) for t in tensors(state)])
        self._after: Any = None
        self._run = record(self._work, x.device)

    def run(self, x: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """What `AudioEncoder.step` gives."""
        self._x[: len(x)] = x
        for to, of in zip(tensors(self._state), tensors(state), strict=True):
            to[: len(x)] = of
        self._run()
        y, after = self._after
        return y[: len(x)].clone(), _rebuilt(after, [t[: len(x)].clone() for t in tensors(after)])

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


def _rounded(count: int) -> int:
    """The next power of two."""
    return 1 << (count - 1).bit_length()


class GraphedQuantizedLinear(QuantizedLinear):
    def product(self, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        return quantized_product(self.form, x, weight, scale)


class GraphedQuantizedTokenTable(QuantizedTokenTable):
    def product(self, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        return quantized_product(self.form, x, weight, scale)


def quantized_product(form: str, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """By Triton's kernels where they can be made, else as it is defined."""
    if x.is_cuda and form in storage.BITS and not _without_triton:
        try:
            from dragoman.kernels import triton_products

            return triton_products.product(form, x, weight, scale)
        except Exception as error:
            if isinstance(error, ValueError):
                raise
            _without_triton.append(error)
            log.warning("no Triton kernels, which makes int8 and int4 slower: %s", error)
    return storage.product(form, x, weight, scale)


_without_triton: list[Exception] = []

QUICK: dict[type[nn.Module], type[nn.Module]] = {
    decoder.LanguageModel: GraphedLanguageModel,
    encoders.AudioEncoder: GraphedAudioEncoder,
    QuantizedLinear: GraphedQuantizedLinear,
    QuantizedTokenTable: GraphedQuantizedTokenTable,
}
