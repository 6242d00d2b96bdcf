"""The decoder's modules, made quick: each class is a subclass of the one whose place it takes.

A method that a kernel serves is overridden; what the kernel does not take goes to the definition,
by `super()`.
"""

import torch
from torch import Tensor, nn

from dragoman import decoder
from dragoman.decoder import KVCache, layers, quantize
from dragoman.decoder.storage import stored
from dragoman.kernels import conformer_ops as ops
from dragoman.kernels.decoder_steps import Steps, serves_pass
from dragoman.kernels.gates import gated, sparse_mlp
from dragoman.kernels.products import MOST_ROWS, linear, quantized_linear, unpacked
from dragoman.kernels.serving import Keeping, serves


class QuickLinear(layers.Linear):
    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        return linear(x, weight)


class QuickTokenTable(layers.TokenTable):
    def logits(self, x: Tensor) -> Tensor:
        return linear(x, self.weight)


class QuickQuantizedLinear(quantize.QuantizedLinear):
    def product(self, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        return quantized_linear(self.form, x, weight, scale)


class QuickQuantizedTokenTable(quantize.QuantizedTokenTable):
    def product(self, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        return quantized_linear(self.form, x, weight, scale)


class QuickRMSNorm(layers.RMSNorm):
    def forward(self, x: Tensor) -> Tensor:
        if self.weight is not None:
            x = x.contiguous()
            if serves(x, self.weight):
                return ops.norm(x, self.weight, self.eps)
        return super().forward(x)


class QuickMLP(layers.MLP):
    """Closed gates of many tokens are not multiplied; GELU(gate) * up is one pass."""

    def forward(self, x: Tensor, width: int | None = None) -> Tensor:
        gate = self.gate_proj(x, rows=width)
        if self.deviations is not None:
            fed = self._sparse(gate, x, width, self.deviations)
            if fed is not None:
                return fed
            gate = layers.opened(gate, self.deviations)
        return self.down_proj(gated(gate, self.up_proj(x, rows=width)), columns=width)

    def _sparse(
        self, gate: Tensor, x: Tensor, width: int | None, deviations: float
    ) -> Tensor | None:
        """Through the open gates alone; None where it must be through all."""
        tokens = x.shape[:-1].numel()
        up, down = numbers(self.up_proj, tokens, width), numbers(self.down_proj, tokens)
        if up is None or down is None:
            return None
        return sparse_mlp(gate, x, up, down[:, :width], deviations)


def numbers(module: nn.Module, tokens: int, rows: int | None = None) -> Tensor | None:
    """The weights of the first rows as numbers, for a product with so many tokens.

    bf12 is unpacked for many tokens, as it would be anyway. None where the weights stay packed.
    """
    form, weight, scale = stored(module)
    if scale is None:
        return weight[:rows]
    if form != "bf12" or tokens <= MOST_ROWS:
        return None
    return unpacked(form, weight[:rows], scale[:rows], torch.bfloat16)


class QuickLanguageModel(decoder.LanguageModel, Keeping):
    """A pass of few positions is one recording."""

    def begin(self) -> None:
        self.recorded = Steps(self.config)

    def _cached(self, embeddings: Tensor, ids: Tensor, cache: KVCache, wanted: int) -> Tensor:
        self._admit(embeddings, ids, cache)
        L = ids.shape[1]
        if self.training or not serves_pass(self.layers, self.config, cache, L):
            return super()._cached(embeddings, ids, cache, wanted)
        how = cache.plan
        told = self._per_layer_inputs(embeddings, ids, how.blocks if wanted == L else how.below)
        if 0 < wanted < L:
            last = embeddings[:, L - wanted :], ids[:, L - wanted :]
            told |= self._per_layer_inputs(*last, how.above)
        queries = torch.arange(cache.length, cache.length + L)[None]
        rotary = {s: self._rotary(queries, s, embeddings.dtype) for s in (False, True)}
        streams = self._spread(embeddings)
        streams = self.recorded.run(self.layers, cache, streams, told, rotary, wanted)
        cache.advance(L)
        return streams


QUICK: dict[type[nn.Module], type[nn.Module]] = {
    layers.Linear: QuickLinear,
    layers.TokenTable: QuickTokenTable,
    layers.RMSNorm: QuickRMSNorm,
    layers.MLP: QuickMLP,
    quantize.QuantizedLinear: QuickQuantizedLinear,
    quantize.QuantizedTokenTable: QuickQuantizedTokenTable,
    decoder.LanguageModel: QuickLanguageModel,
}
