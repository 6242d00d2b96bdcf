"""The parts of a Gemma 3n decoder layer: norms, rotary positions, attention, sparse MLP, LAuReL,
AltUp.

Streams are kept as [B, L, A, D] (A AltUp streams innermost but one), so that AltUp's prediction is
one batched product of [A, A] by [A, D]. Nothing here holds a buffer: a model built on the meta
device and given its weights by assignment is complete.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dragoman.decoder.config import SLIDING, TextConfig

# A mean square below it counts as this: the square root is still near 0 and its gradient finite.
TINY = 1e-20


class Linear(nn.Linear):
    """A weight [outputs, inputs] without bias, of which some rows or columns may act alone."""

    def __init__(self, inputs: int, outputs: int):
        # Not typed by torch, as nn.Linear does not say what its device and dtype are.
        super().__init__(inputs, outputs, bias=False)  # pyright: ignore[reportUnknownMemberType]

    def forward(
        self, input: Tensor, rows: int | slice | None = None, columns: int | None = None
    ) -> Tensor:
        """input [..., columns or inputs] -> [..., rows or outputs], through a view of the weight.

        rows: how many of the first rows act, or which; columns: how many of the first columns.
        """
        if rows is None and columns is None:
            return self.product(input, self.weight)
        chosen = rows if isinstance(rows, slice) else slice(rows)
        return self.product(input, self.weight[chosen, :columns])

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """x [..., inputs] -> [..., outputs], by the weight or a view of it."""
        return F.linear(x, weight)


class TokenTable(nn.Embedding):
    """The embeddings of the vocabulary [V, D], which are the rows of the output head as well."""

    def logits(self, x: Tensor) -> Tensor:
        """x [..., D] -> [..., V]."""
        return F.linear(x, self.weight)


class LayerTable(nn.Embedding):
    """What each token tells every layer [V, layers * P]; a pass reads the rows of its tokens."""

    def rows(self, ids: Tensor, columns: slice) -> Tensor:
        """ids [...], on any device -> [..., C], where the table lies and in its type."""
        return F.embedding(ids.to(self.weight.device), self.weight[:, columns])

    def gather(self, ids: Tensor, out: Tensor) -> None:
        """Puts the whole rows of ids [N] into ``out`` [N, layers * P], all where the table lies."""
        torch.index_select(self.weight, 0, ids, out=out)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) over the last axis, times a learnt scale where there is one; the
    shape and dtype of x, statistics in float32 at least (arXiv:1910.07467).
    """

    def __init__(self, width: int, eps: float, scale: bool = True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width)) if scale else None

    def forward(self, x: Tensor) -> Tensor:
        if self.weight is None or self.weight.dtype == x.dtype:
            return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)
        return F.rms_norm(x.float(), x.shape[-1:], self.weight.float(), self.eps).to(x.dtype)


@dataclass(frozen=True)
class View:
    """What the queries of one pass see in one type of attention layer.

    cos, sin: [B, L, 1, H/2] of the queries' positions; mask: additive [B, 1, L, S] or None (all
        visible);
    first_key: keys before this one are out of every query's reach and are not read (S counts from
        here).
    causal: the keys are those of the queries, and each query sees its own and those before it.
    """

    cos: Tensor
    sin: Tensor
    mask: Tensor | None
    first_key: int = 0
    causal: bool = False

    def mix(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention with scale 1: queries [B, N, L, H], keys and values [B, N_kv, first_key + S, H]
        -> [B, N, L, H].
        """
        keys, values = keys[:, :, self.first_key :], values[:, :, self.first_key :]
        grouped = queries.shape[1] != keys.shape[1]
        if grouped and queries.is_cuda and not self.causal:
            return self._mix_groups(queries, keys, values)
        return F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=self.mask,
            is_causal=self.causal,
            scale=1.0,
            enable_gqa=grouped,
        )

    def _mix_groups(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """The heads of a group as further queries of one head: on a GPU torch has no quick kernel
        for a mask and groups together.
        """
        N, groups = queries.shape[1], keys.shape[1]
        mask = self.mask
        if mask is not None and mask.shape[2] > 1:
            mask = mask.repeat(1, 1, N // groups, 1)
        folded = torch.unflatten(queries, 1, (groups, N // groups)).flatten(2, 3)
        mixed = F.scaled_dot_product_attention(folded, keys, values, attn_mask=mask, scale=1.0)
        return torch.unflatten(mixed, 2, (N // groups, -1)).flatten(1, 2)


def rotary_tables(
    positions: Tensor, width: int, base: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """cos and sin of the angles p * base^(-2i/width): [B, L, 1, width/2] for positions [B, L]."""
    exponents = torch.arange(0, width, 2, dtype=torch.float32, device=positions.device) / width
    angles = positions[..., None, None].float() * base**-exponents
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x [B, L, N, H]; pairs are (i, i + H/2)."""
    low, high = x.chunk(2, dim=-1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)


class Attention(nn.Module):
    """Grouped-query attention with normed queries, keys and values and scale 1.

    A KV-shared layer has no key and value weights; it is handed the keys and values of its source.
    """

    def __init__(self, config: TextConfig, owns_kv: bool):
        super().__init__()
        self.head_dim = config.head_dim
        query_width = config.num_attention_heads * config.head_dim
        key_width = config.num_key_value_heads * config.head_dim
        self.q_proj = Linear(config.hidden_size, query_width)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        if owns_kv:
            self.k_proj = Linear(config.hidden_size, key_width)
            self.v_proj = Linear(config.hidden_size, key_width)
            self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
            self.v_norm = RMSNorm(config.head_dim, config.rms_norm_eps, scale=False)
        self.o_proj = Linear(query_width, config.hidden_size)

    def keys_values(self, x: Tensor, view: View) -> tuple[Tensor, Tensor]:
        """Rotated keys and normed values [B, N_kv, L, H] of x [B, L, D]."""
        keys = torch.unflatten(self.k_proj(x), -1, (-1, self.head_dim))
        values = self.v_norm(torch.unflatten(self.v_proj(x), -1, (-1, self.head_dim)))
        keys = rotate(self.k_norm(keys), view.cos, view.sin)
        return keys.transpose(1, 2), values.transpose(1, 2)

    def forward(self, x: Tensor, view: View, keys: Tensor, values: Tensor) -> Tensor:
        """x [B, L, D], keys and values [B, N_kv, first_key + S, H] -> [B, L, D]."""
        queries = self.q_norm(torch.unflatten(self.q_proj(x), -1, (-1, self.head_dim)))
        queries = rotate(queries, view.cos, view.sin).transpose(1, 2)
        mixed = view.mix(queries, keys, values)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Gated feed-forward; sparse layers keep only gate activations above a Gaussian quantile.

    Nested (MatFormer, arXiv:2310.07707): the first `width` rows of gate and up and columns of down
    are a smaller model. The sparsity statistics are over the active width.
    """

    def __init__(self, config: TextConfig, index: int):
        super().__init__()
        width, sparsity = config.ffn_widths[index], config.sparsities[index]
        self.gate_proj = Linear(config.hidden_size, width)
        self.up_proj = Linear(config.hidden_size, width)
        self.down_proj = Linear(width, config.hidden_size)
        self.deviations = NormalDist().inv_cdf(sparsity) if sparsity > 0 else None

    def forward(self, x: Tensor, width: int | None = None) -> Tensor:
        """x [B, L, D] -> [B, L, D], through the first `width` hidden units (None: all)."""
        gate = self.gate_proj(x, rows=width)
        if self.deviations is not None:
            gate = opened(gate, self.deviations)
        hidden = F.gelu(gate, approximate="tanh") * self.up_proj(x, rows=width)
        return self.down_proj(hidden, columns=width)


def opened(gate: Tensor, deviations: float) -> Tensor:
    """How far gates [..., width] are beyond the mean plus so many deviations of their row, or 0."""
    variance, mean = torch.var_mean(gate.float(), dim=-1, correction=0, keepdim=True)
    cutoff = mean + deviations * variance.clamp(min=TINY).sqrt()
    return F.relu(gate - cutoff.to(gate.dtype))


class Laurel(nn.Module):
    """Learned augmented residual: x + norm(low rank map of x) (arXiv:2411.07501)."""

    def __init__(self, config: TextConfig):
        super().__init__()
        self.linear_left = Linear(config.hidden_size, config.laurel_rank)
        self.linear_right = Linear(config.laurel_rank, config.hidden_size)
        self.post_laurel_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.post_laurel_norm(self.linear_right(self.linear_left(x)))


class AltUp(nn.Module):
    """Alternating updates: one stream is computed, cheap maps move the others
    (arXiv:2301.13310)."""

    def __init__(self, config: TextConfig):
        super().__init__()
        streams = config.altup_num_inputs
        self.streams, self.active = streams, config.altup_active_idx
        self.clip, self.scale_output = config.altup_coef_clip, config.altup_correct_scale
        self.correct_output_scale = nn.Parameter(torch.ones(config.hidden_size))
        self.correction_coefs = Linear(streams, streams)
        self.prediction_coefs = Linear(streams, streams**2)
        self.modality_router = Linear(config.hidden_size, streams)
        self.router_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def predict(self, streams: Tensor) -> Tensor:
        """Guess every stream after the layer from all streams before it: [B, L, A, D] -> the
        same."""
        B, L, A, D = streams.shape
        coefficients = self._coefficients(self.prediction_coefs, streams[:, :, self.active])
        flat = streams.reshape(B * L, A, D)
        return torch.baddbmm(flat, coefficients.reshape(B * L, A, A), flat).view(B, L, A, D)

    def correct(self, predictions: Tensor, computed: Tensor, innovation: Tensor) -> Tensor:
        """Move all predictions [B, L, A, D] by `innovation` [B, L, D], what the layer computed
        beyond the active one, each by a gain read from `computed` [B, L, D]."""
        gains = self._coefficients(self.correction_coefs, computed) + 1.0
        return torch.addcmul(predictions, gains[..., None], innovation[:, :, None])

    def _coefficients(self, coefs: nn.Linear, x: Tensor) -> Tensor:
        routed = self.modality_router(self.router_norm(x) * (1.0 / x.shape[-1]))
        modalities = torch.tanh(routed.float()).to(x.dtype)
        if self.training and self.clip is not None:
            return F.linear(modalities, coefs.weight.clamp(-self.clip, self.clip))
        return coefs(modalities)


class DecoderLayer(nn.Module):
    """One layer in two halves; between them k and v are stored and positions may be dropped."""

    def __init__(self, config: TextConfig, index: int):
        super().__init__()
        D, eps = config.hidden_size, config.rms_norm_eps
        self.owns_kv = index <= config.last_kv_owner
        self.sliding = config.layer_kinds[index] == SLIDING
        self.self_attn = Attention(config, self.owns_kv)
        self.mlp = MLP(config, index)
        self.altup = AltUp(config)
        self.laurel = Laurel(config)
        self.input_layernorm = RMSNorm(D, eps)
        self.post_attention_layernorm = RMSNorm(D, eps)
        self.pre_feedforward_layernorm = RMSNorm(D, eps)
        self.post_feedforward_layernorm = RMSNorm(D, eps)
        self.per_layer_input_gate = Linear(D, config.hidden_size_per_layer_input)
        self.per_layer_projection = Linear(config.hidden_size_per_layer_input, D)
        self.post_per_layer_input_norm = RMSNorm(D, eps)

    def begin(self, streams: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted streams [B, L, A, D] and the normed active one [B, L, D], source of k and v."""
        predictions = self.altup.predict(streams)
        return predictions, self.input_layernorm(predictions[:, :, self.altup.active])

    def finish(
        self, predictions: Tensor, normed: Tensor, per_layer_input: Tensor, view: View,
        keys: Tensor, values: Tensor, ffn_width: int | None,
    ) -> Tensor:  # fmt: skip
        """Attention, feed-forward and correction at the view's positions: streams [B, L, A, D]."""
        predicted = predictions[:, :, self.altup.active]
        attended = self.post_attention_layernorm(self.self_attn(normed, view, keys, values))
        mixed = (predicted + attended + self.laurel(normed)) * math.sqrt(0.5)
        fed = self.mlp(self.pre_feedforward_layernorm(mixed), ffn_width)
        computed = mixed + self.post_feedforward_layernorm(fed)
        corrected = self.altup.correct(predictions, computed, computed - predicted)
        active = corrected[:, :, self.altup.active]
        if self.altup.scale_output:
            active = active * self.altup.correct_output_scale
        gated = F.gelu(self.per_layer_input_gate(active), approximate="tanh") * per_layer_input
        added = self.post_per_layer_input_norm(self.per_layer_projection(gated))
        first, others = torch.split(corrected, [1, self.altup.streams - 1], dim=2)
        return torch.cat((first, others + added[:, :, None]), dim=2)
