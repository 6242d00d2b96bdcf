"""Models on a GPU: the passes of the decoder and the steps of the encoder as recordings.

`accelerate` gives a model on a GPU these classes, each a subclass of the one that it replaces. What
does not fit a recording (:mod:`kernels.graph_passes`, :mod:`kernels.graph_steps`) runs as it is
defined.
"""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dragoman import decoder, encoders
from dragoman.decoder import KVCache, Slice, layers, storage
from dragoman.decoder.packed import Request
from dragoman.decoder.quantize import QuantizedLinear, QuantizedTokenTable
from dragoman.encoders import EncoderState
from dragoman.encoders.streaming import phase_of
from dragoman.kernels.graph_passes import Pass, kind_of
from dragoman.kernels.graph_steps import Step
from dragoman.kernels.graphs import Recordings, rounded
from dragoman.kernels.serving import Keeping, give
from dragoman.kernels.slots import SlotCache, Slots

log = logging.getLogger(__name__)

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
    give(model, QUICK)


def _unpacked(module: QuantizedLinear | QuantizedTokenTable, dtype: torch.dtype) -> nn.Module:
    numbers = storage.unpacked("bf12", module.weight, module.scale, dtype)
    outputs, inputs = numbers.shape
    if isinstance(module, QuantizedTokenTable):
        return layers.TokenTable.from_pretrained(numbers)
    with torch.device("meta"):
        linear = layers.Linear(inputs, outputs)
    linear.weight = nn.Parameter(numbers, requires_grad=False)
    return linear


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


class GraphedAudioEncoder(encoders.AudioEncoder, Keeping):
    """Steps of few frames are recordings, of one, two, four, ... streams."""

    def begin(self) -> None:
        self.recorded: Recordings[Step] = Recordings()

    def step(self, x: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        if not 0 < x.shape[1] <= MOST_FRAMES or torch.is_grad_enabled():
            return super().step(x, state)
        kind = rounded(len(x)), x.shape[1], phase_of(state)
        found = self.recorded.get(kind, lambda: Step(super(GraphedAudioEncoder, self), x, state))
        return super().step(x, state) if found is None else found.run(x, state)


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
