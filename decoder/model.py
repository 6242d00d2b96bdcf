"""The Gemma 3n language model: embeddings in, next-token logits out, whole, cached, or for
training.

Parameter names are those of the Hugging Face checkpoints below `model.language_model.`. The head
is the embedding table. Unusual: above the last layer that owns keys and values, positions whose
logits nobody wants are dropped, and what layers are told about each token is made only where they
run. That is exact, since nothing reads the rest; it makes prefill and training cheaper.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from dragoman.decoder.alignment import Noted, up_to
from dragoman.decoder.cache import KVCache
from dragoman.decoder.config import SLIDING, TextConfig, kv_sources
from dragoman.decoder.layers import (
    TINY,
    DecoderLayer,
    LayerTable,
    Linear,
    RMSNorm,
    TokenTable,
    View,
    rotary_tables,
)
from dragoman.decoder.packed import Caches, Request, Rows, in_a_row, places
from dragoman.decoder.slices import Plan, Slice, plan

Views = Mapping[bool, View]  # by whether the layer slides


class LanguageModel(nn.Module):
    """Gemma 3n's text model (transformers' `Gemma3nTextModel` with its head).

    Inputs are embeddings [B, L, D] (`embed` makes them from text; soft tokens come from an
    encoder) and the ids [B, L] they stand for, which select the per-layer embeddings: ids outside
    the per-layer table, as those of soft tokens, read its row 0. Logits are float32 and
    softcapped. Any slice of the model runs on views of the same weights, at no cost to change it:
    `forward` takes the size, the passes over a cache run at the cache's size.
    """

    def __init__(self, config: TextConfig):
        super().__init__()
        self.config = config
        self.kv_sources = kv_sources(config)
        D, P, layers = (
            config.hidden_size,
            config.hidden_size_per_layer_input,
            config.num_hidden_layers,
        )
        self.embed_tokens = TokenTable(config.vocab_size, D)
        self.embed_tokens_per_layer = LayerTable(config.vocab_size_per_layer_input, layers * P)
        self.per_layer_model_projection = Linear(D, layers * P)
        self.per_layer_projection_norm = RMSNorm(P, config.rms_norm_eps)
        others = range(1, config.altup_num_inputs)
        self.altup_projections = nn.ModuleList(Linear(D, D) for _ in others)
        self.altup_unembed_projections = nn.ModuleList(Linear(D, D) for _ in others)
        self.layers = nn.ModuleList(DecoderLayer(config, i) for i in range(layers))
        self.norm = RMSNorm(D, config.rms_norm_eps)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal weights of deviation `initializer_range`, norms and output scales at one.

        The scales start at one, not at transformers' zero: behind a zero the norm of the per-layer
        branch divides by sqrt(eps) and the first gradients are a thousand times too large.
        """
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=self.config.initializer_range)
            else:
                nn.init.ones_(parameter)

    def embed(self, ids: Tensor) -> Tensor:
        """Scaled text embeddings [B, L, D] of ids [B, L]."""
        return self.embed_tokens(ids) * _rounded(self.config.hidden_size**0.5, self.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """What all activations are computed in, whatever form the weights have."""
        return self._example.dtype

    @property
    def device(self) -> torch.device:
        """Where the work is done; the per-layer table may lie elsewhere."""
        return self._example.device

    @property
    def _example(self) -> Tensor:
        """A weight that is never quantized."""
        assert self.norm.weight is not None
        return self.norm.weight

    def forward(
        self,
        embeddings: Tensor,
        ids: Tensor,
        positions: Tensor | None = None,
        valid: Tensor | None = None,
        outputs: Tensor | None = None,
        size: Slice | None = None,
    ) -> Tensor:
        """Logits of whole sequences, differentiable.

        embeddings: float [B, L, D]; ids: int [B, L].
        positions: int [B, L] or None: counted over the valid tokens of each row.
        valid: bool [B, L], False where a row is padding (anywhere), or None: all valid. A query
            sees the valid keys at its own and earlier positions; what it answers at padding is
            meaningless but finite.
        outputs: int [B, K], indices into L at which logits are wanted, or None: all.
        size: the part of the model that runs, or None: all of it.
        Returns float32 [B, K or L, V]. Raises ValueError for a size that the model does not have.
        """
        self._check(embeddings, ids)
        if valid is None:
            valid = torch.ones_like(ids, dtype=torch.bool)
        if positions is None:
            positions = (valid.long().cumsum(1) - 1).clamp(min=0)
        views = self._views(positions, positions, valid, embeddings.dtype)
        if outputs is None:
            narrowed = views
        else:
            narrowed = self._views(select(positions, outputs), positions, valid, embeddings.dtype)
        how = plan(self.config, size)
        return self._logits(self._run(embeddings, ids, views, narrowed, outputs, how))

    def new_cache(self, batch: int = 1, capacity: int = 256, size: Slice | None = None) -> KVCache:
        """An empty cache for `batch` rows, in the dtype and on the device of the weights.

        size: the part of the model that runs on it, or None: all of it. Another size needs another
        cache. Raises ValueError for a size that the model does not have.
        """
        return KVCache(self.config, batch, capacity, self.dtype, self.device, size)

    @torch.inference_mode()
    def extend(self, embeddings: Tensor, ids: Tensor, cache: KVCache) -> None:
        """Append positions to the cache and compute nothing else: no shared layers, no logits."""
        self.answer(embeddings, ids, cache, 0)

    @torch.inference_mode()
    def prefill(self, embeddings: Tensor, ids: Tensor, cache: KVCache) -> Tensor:
        """Append positions [B, L] to the cache; logits [B, V] of the last one."""
        return self.answer(embeddings, ids, cache, 1)[:, 0]

    @torch.inference_mode()
    def answer(self, embeddings: Tensor, ids: Tensor, cache: KVCache, wanted: int) -> Tensor:
        """Append positions [B, L] to the cache; logits [B, wanted, V] of the last `wanted` ones."""
        return self._logits(self._cached(embeddings, ids, cache, wanted))

    @torch.inference_mode()
    def verify(self, ids: Tensor, cache: KVCache) -> Tensor:
        """Append text ids [B, L] to the cache; logits [B, L, V] after each of them, in one pass.

        The caller truncates the cache where a draft turns out wrong.
        """
        return self.answer(self.embed(ids), ids, cache, ids.shape[1])

    @torch.inference_mode()
    def step(self, ids: Tensor, cache: KVCache) -> Tensor:
        """Append one text id [B] to the cache; logits [B, V] after it."""
        return self.verify(ids[:, None], cache)[:, 0]

    def _cached(self, embeddings: Tensor, ids: Tensor, cache: KVCache, wanted: int) -> Tensor:
        """Run a pass over new positions; streams [B, wanted, A, D] of the last `wanted` ones."""
        self._admit(embeddings, ids, cache)
        B, L = ids.shape
        views = self._cached_views(cache.length, L, embeddings)
        outputs, narrowed = None, views
        if wanted < L:
            outputs = torch.arange(L - wanted, L, device=ids.device).expand(B, wanted)
            narrowed = self._cached_views(cache.length + L - wanted, wanted, embeddings)
        streams = self._run(embeddings, ids, views, narrowed, outputs, cache.plan, cache)
        cache.advance(L)
        return streams

    @torch.inference_mode()
    def answer_together(self, requests: Sequence[Request]) -> list[Tensor]:
        """As `answer`, for several sequences in one pass: logits [wanted, V] of each.

        The caches are of one size and one row, and none comes twice. Raises ValueError, where
        `answer` would for one of them, before anything is done.
        """
        self._admit_all(requests)
        embeddings, ids = in_a_row(requests)
        caches, answered = Caches(requests), places(requests)
        views, outputs = self._rows(requests, [request.length for request in requests]), None
        narrowed = views
        if len(answered) < ids.shape[1]:
            outputs = torch.tensor([answered], dtype=torch.long, device=ids.device)
            narrowed = self._rows(requests, [request.wanted for request in requests])
        streams = self._run(embeddings, ids, views, narrowed, outputs, caches.plan, caches)
        logits = self._logits(streams)[0]
        caches.advance()  # last: where anything above fails, no cache has changed
        return list(torch.split(logits, [request.wanted for request in requests]))

    @torch.inference_mode()
    def watch(self, requests: Sequence[Request]) -> list[Tensor]:
        """What the heads of the requests, the same of all, see from the last `wanted` positions of
        each: float32 [heads, wanted, S], shares of the S positions that its cache would hold then.

        No cache changes. Raises ValueError as `answer_together`.
        """
        self._admit_all(requests)
        embeddings, ids = in_a_row(requests)
        caches, heads = Caches(requests), requests[0].heads
        how = up_to(caches.plan, max(layer for layer, _ in heads))
        views = self._rows(requests, [request.length for request in requests])
        noted: list[Noted] = [{} for _ in requests]
        for sliding, rows in views.items():
            layers = [i for i, _ in how.steps if (self.config.layer_kinds[i] == SLIDING) == sliding]
            views[sliding] = rows.watching(layers, requests, noted)
        self._run(embeddings, ids, views, views, None, how, caches)
        return [torch.stack([one[head] for head in heads]) for one in noted]

    def _admit_all(self, requests: Sequence[Request]) -> None:
        """Make room in all caches; raises ValueError where one pass cannot be over all of them."""
        for request in requests:
            self._admit(request.embeddings, request.ids, request.cache)
        if len({id(request.cache) for request in requests}) < len(requests):
            raise ValueError("a cache came twice in one pass: ask its second request in the next")
        if len({request.cache.plan for request in requests}) > 1:
            raise ValueError("caches of several sizes came in one pass: make one for each size")

    def _rows(self, requests: Sequence[Request], counts: Sequence[int]) -> dict[bool, Rows]:
        """Views for the last so many of each request's positions."""
        views: dict[int, Views] = {}
        for place, (request, count) in enumerate(zip(requests, counts, strict=True)):
            if count:
                start = request.cache.length + request.length - count
                views[place] = self._cached_views(start, count, request.embeddings)
        if not views:
            return {}
        return {
            sliding: Rows.of([(place, of_one[sliding]) for place, of_one in views.items()])
            for sliding in (False, True)
        }

    def _admit(self, embeddings: Tensor, ids: Tensor, cache: KVCache) -> None:
        """Make room for new positions; raises ValueError where they do not fit the cache."""
        self._check(embeddings, ids)
        B, L = ids.shape
        if cache.config != self.config:
            raise ValueError("the cache is of another model; start one with this model's new_cache")
        if cache.batch != B:
            raise ValueError(f"got {B} rows for a cache of {cache.batch}; use new_cache({B})")
        cache.reserve(L)

    def _run(
        self,
        embeddings: Tensor,
        ids: Tensor,
        views: Views,
        narrowed: Views,
        outputs: Tensor | None,
        how: Plan,
        cache: KVCache | Caches | None = None,
    ) -> Tensor:
        """The layers of the plan; from the last owner's attention on, only at `outputs` ([B, K],
        None: all)."""
        streams = self._spread(embeddings)
        told = self._per_layer_inputs(embeddings, ids, how.blocks if outputs is None else how.below)
        kv: dict[int, tuple[Any, Any]] = {}  # what the views know how to read
        for i, width in how.steps:
            layer = self.layers[i]
            assert isinstance(layer, DecoderLayer)
            predictions, normed = layer.begin(streams)
            if layer.owns_kv:
                new = layer.self_attn.keys_values(normed, views[layer.sliding])
                kv[i] = new if cache is None else cache.write(i, *new)
            if i == how.owners[-1] and outputs is not None:
                if outputs.shape[1] == 0:
                    return predictions[:, :0]
                predictions, normed = select(predictions, outputs), select(normed, outputs)
                embeddings, ids = select(embeddings, outputs), select(ids, outputs)
                told, views = self._per_layer_inputs(embeddings, ids, how.above), narrowed
            view, (keys, values) = views[layer.sliding], kv[self.kv_sources[i]]
            streams = layer.finish(predictions, normed, told[i], view, keys, values, width)
        return streams

    def _views(self, queries: Tensor, keys: Tensor, valid: Tensor, dtype: torch.dtype) -> Views:
        """Views for query positions [B, L] over key positions [B, S] of which `valid` [B, S]
        count."""
        distance = queries[:, :, None] - keys[:, None]
        seen = (distance >= 0) & valid[:, None]
        near = seen & (distance < self.config.sliding_window)
        return {
            sliding: View(*self._rotary(queries, sliding, dtype), _additive(allowed, dtype))
            for sliding, allowed in ((False, seen), (True, near))
        }

    def _cached_views(self, start: int, count: int, like: Tensor) -> Views:
        """Views for `count` query positions from `start` on, over all keys up to each of them."""
        queries = torch.arange(start, start + count, device=like.device)[None]
        views: Views = {}
        for sliding in (False, True):
            reach = self.config.sliding_window if sliding else start + count
            first = max(0, start - reach + 1)
            mask, causal = None, like.is_cuda and first == start == 0 and 1 < count <= reach
            if count > 1 and not causal:
                distance = queries[:, :, None] - torch.arange(
                    first, start + count, device=like.device
                )
                allowed = distance >= 0
                if sliding:
                    allowed &= distance < reach
                mask = _additive(allowed, like.dtype)
            views[sliding] = View(*self._rotary(queries, sliding, like.dtype), mask, first, causal)
        return views

    def _rotary(
        self, positions: Tensor, sliding: bool, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        base = self.config.rope_local_base_freq if sliding else self.config.rope_theta
        return rotary_tables(positions, self.config.head_dim, base, dtype)

    def _spread(self, embeddings: Tensor) -> Tensor:
        """The AltUp streams [B, L, A, D] of embeddings [B, L, D], all of one magnitude per
        token."""
        size = _magnitude(embeddings, TINY)
        others = [_resized(project(embeddings), size) for project in self.altup_projections]
        return torch.stack([embeddings, *others], dim=2)

    def _logits(self, streams: Tensor) -> Tensor:
        """Merge streams [B, K, A, D] and apply the head: float32 [B, K, V]."""
        if streams.shape[1] == 0:  # nobody asked
            return streams.new_empty(*streams.shape[:2], self.config.vocab_size).float()
        first = streams[:, :, 0]
        size = _magnitude(first, TINY)
        merged = first
        for i, project in enumerate(self.altup_unembed_projections, start=1):
            merged = merged + _resized(project(streams[:, :, i]), size)
        hidden = self.norm(merged / self.config.altup_num_inputs)
        logits, cap = self.embed_tokens.logits(hidden).float(), self.config.final_logit_softcapping
        return logits if cap is None else softcapped(logits, cap)

    def _per_layer_inputs(
        self, embeddings: Tensor, ids: Tensor, blocks: Iterable[range]
    ) -> dict[int, Tensor]:
        """What each layer of `blocks` is told about each token: [B, L, P], from its id and its
        embedding."""
        table, dtype = self.embed_tokens_per_layer, embeddings.dtype
        P = self.config.hidden_size_per_layer_input
        in_table = (ids >= 0) & (ids < table.num_embeddings)
        places = torch.where(in_table, ids, 0)
        told: dict[int, Tensor] = {}
        for block in blocks:
            part = slice(block.start * P, block.stop * P)
            # The table may stay on the host and as it is stored, whatever the rest is.
            rows = table.rows(places, part).to(embeddings.device, dtype)
            rows = torch.unflatten(rows, -1, (-1, P)) * _rounded(P**0.5, dtype)
            projected = self.per_layer_model_projection(embeddings, rows=part) * _rounded(
                self.config.hidden_size**-0.5, dtype
            )
            projected = self.per_layer_projection_norm(torch.unflatten(projected, -1, (-1, P)))
            both = (projected + rows) * _rounded(0.5**0.5, dtype)
            told |= dict(zip(block, both.unbind(2), strict=True))
        return told

    def _check(self, embeddings: Tensor, ids: Tensor) -> None:
        expected = (*ids.shape, self.config.hidden_size)
        if ids.dim() != 2 or ids.shape[1] == 0 or embeddings.shape != expected:
            raise ValueError(
                "expected ids [B, L] with L >= 1 and embeddings [B, L, hidden_size], got ids "
                f"{tuple(ids.shape)} and embeddings {tuple(embeddings.shape)} "
                f"(hidden_size {self.config.hidden_size})"
            )


def softcapped(x: Tensor, cap: float) -> Tensor:
    """cap * tanh(x / cap); with one copy where no gradient is wanted."""
    y = x / cap
    return cap * torch.tanh(y) if y.requires_grad else y.tanh_().mul_(cap)


def select(x: Tensor, indices: Tensor) -> Tensor:
    """x [B, L, ...] at indices [B, K] of the second axis: [B, K, ...]."""
    B, L = x.shape[:2]
    rows = torch.arange(B, device=x.device)[:, None] * L + indices
    return torch.unflatten(x.flatten(0, 1).index_select(0, rows.flatten()), 0, indices.shape)


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Mask [B, 1, L, S]: 0 where allowed [B, L, S], else -inf.

    A query that may see nothing (padding in front of a row) sees everything: the softmax over
    nothing is NaN in some attention kernels.
    """
    allowed = allowed | ~allowed.any(-1, keepdim=True)
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill(~allowed, float("-inf"))[:, None]


def _magnitude(x: Tensor, floor: float) -> Tensor:
    """Root mean square over the last axis, kept: float32 [..., 1]."""
    return x.float().square().mean(-1, keepdim=True).clamp(min=floor).sqrt()


def _resized(x: Tensor, size: Tensor) -> Tensor:
    """x at another root mean square per token."""
    return (x * (size / _magnitude(x, 1e-5))).to(x.dtype)


@lru_cache(maxsize=64)
def _rounded(value: float, dtype: torch.dtype) -> float:
    """A constant at the precision of the weights, as the model was trained with it."""
    return torch.tensor(value, device="cpu").to(dtype).item()
