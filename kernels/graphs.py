"""CUDA graphs: a decode step, and a live step of the encoder, recorded once and replayed in one go.

On a GPU such a step is hundreds of small kernels, and starting them one by one takes longer than
they do. A recording starts all of them with one call, but always works on the same memory. So a
decode step has a cache of fixed room, with the place of the token in a tensor; and the encoder's
step has states that it writes anew in place. What is computed is the models' own code.

Unusual: on the CPU nothing is recorded and the same functions run as they are, which is how they
are tested. No GPU has run this yet, and a log line says so where one would.
"""

import copy
import logging
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dragoman.decoder import KVCache, LanguageModel, Slice
from dragoman.decoder.layers import View
from dragoman.encoders import MultimodalEmbedder, StreamingAudioEncoder, StreamingAudioState
from dragoman.encoders.streaming import phase_of

log = logging.getLogger(__name__)

WARM_UP = 3  # runs before a recording, in which libraries choose their kernels


def record(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """``work`` as a recording on a GPU, where it is run a few times at once; elsewhere itself."""
    if device.type != "cuda":
        return work
    log.warning("CUDA graphs are used, which no GPU had run when they were written")
    aside = torch.cuda.Stream(device)
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            work()
    torch.cuda.current_stream(device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


class DecodeSteps:
    """Decode steps of one sequence at a time, over a cache of fixed room.

    The per-layer table stays where it is: the row of each token is copied to the model ahead of
    its step.
    """

    def __init__(self, model: LanguageModel, capacity: int = 1024, size: Slice | None = None):
        """``capacity``: positions there is room for; each step looks at all of them."""
        device = model.device
        self._table, self._dtype = model.embed_tokens_per_layer, model.dtype
        row = torch.zeros(1, 1, self._table.embedding_dim, dtype=model.dtype)
        self._staged = row.pin_memory() if device.type == "cuda" else row
        self._fed = _Fed(self._table.num_embeddings, row.to(device))
        self._model = _with_table(model, self._fed)
        self.cache = model.new_cache(1, capacity, size)
        self._token = torch.zeros(1, 1, dtype=torch.long, device=device)
        self._place = torch.zeros(1, dtype=torch.long, device=device)
        self._logits = torch.zeros(1, model.config.vocab_size, device=device)
        self._run = record(self._step, device)

    def begin(self, cache: KVCache) -> None:
        """Goes on behind what ``cache`` holds, which is copied; raises ValueError where it is of
        another size or has more rows or positions than there is room for.
        """
        ours = self.cache
        if cache.batch != 1 or cache.plan != ours.plan or cache.length > ours.capacity:
            raise ValueError(
                f"got a cache of {cache.batch} rows and {cache.length} positions, expected one row "
                f"of this size of the model and at most {ours.capacity} positions: record more room"
            )
        for layer in ours.plan.owners:
            pairs = zip(ours.buffers(layer), cache.buffers(layer), strict=True)
            for to, of in pairs:
                to[:, :, : cache.length] = of[:, :, : cache.length]
        ours.truncate(0)
        ours.advance(cache.length)

    def step(self, token: int) -> Tensor:
        """Appends a text id; logits [1, V] after it, which the next step writes over.

        Raises ValueError where there is no room.
        """
        if self.cache.length >= self.cache.capacity:
            raise ValueError(f"{self.cache.capacity} positions are full: record more room")
        # The last step has read it: its logits were asked for before this token was known.
        known = torch.tensor([[token if token < self._fed.num_embeddings else 0]])
        self._staged.copy_(self._table.rows(known, slice(None)))
        self._fed.row.copy_(self._staged, non_blocking=True)
        self._token.fill_(token)
        self._place.fill_(self.cache.length)
        self._run()
        self.cache.advance(1)
        return self._logits

    @torch.inference_mode()
    def _step(self) -> None:
        model, views = self._model, self._views()
        embeddings, into = model.embed(self._token), _At(self.cache, self._place)
        streams = model._run(embeddings, self._token, views, views, None, self.cache.plan, into)
        self._logits.copy_(model._logits(streams)[:, 0])

    def _views(self) -> dict[bool, View]:
        """What the token sees of the whole cache, by whether a layer slides."""
        distance = self._place - torch.arange(self.cache.capacity, device=self._place.device)
        seen = distance >= 0
        near = seen & (distance < self._model.config.sliding_window)
        views = {}
        for sliding, allowed in ((False, seen), (True, near)):
            mask = torch.zeros(allowed.shape, dtype=self._dtype, device=allowed.device)
            mask = mask.masked_fill(~allowed, float("-inf"))[None, None, None]
            cos, sin = self._model._rotary(self._place[None], sliding, self._dtype)
            views[sliding] = View(cos, sin, mask)
        return views


class _Fed(nn.Module):
    """In the place of the per-layer table: the row of the one token, float [1, 1, W]."""

    def __init__(self, num_embeddings: int, row: Tensor):
        super().__init__()
        self.num_embeddings, self.row = num_embeddings, row

    def rows(self, ids: Tensor, columns: slice) -> Tensor:
        return self.row[..., columns]


class _At:
    """Writes into a cache at a place that a tensor tells."""

    def __init__(self, cache: KVCache, place: Tensor):
        self._cache, self._place = cache, place

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        every = self._cache.buffers(layer)
        for buffer, new in zip(every, (keys, values), strict=True):
            buffer.index_copy_(2, self._place, new)
        return every


def _with_table(model: LanguageModel, table: nn.Module) -> Any:
    """The same model, all of its weights shared, with another per-layer table."""
    twin = copy.copy(model)
    twin._modules = {**model._modules, "embed_tokens_per_layer": table}
    return twin


class EncoderSteps:
    """Live steps of many streams together: a chunk of 160 ms of each, one soft token of each."""

    def __init__(
        self,
        encoder: StreamingAudioEncoder,
        embedder: MultimodalEmbedder,
        state: StreamingAudioState,
    ):
        """``state``: of streams that stand behind two chunks at least, from where on all of their
        steps are alike; it is kept and written over. Raises ValueError for others.
        """
        self._encoder, self._embedder, self.state = encoder, embedder, state
        held = _tensors(state)
        streams, device = held[0].shape[0], held[0].device
        self._samples = torch.zeros(streams, encoder.stride, device=device)
        kept = [tensor.clone() for tensor in held]
        phase = phase_of(state)
        with torch.inference_mode():
            features, after = encoder.step(self._samples, state)
        if phase_of(after) != phase:
            raise ValueError(
                "a step changes what this state looks like: step each stream twice before"
            )
        self._tokens = torch.empty_like(embedder.soft(features))
        self._restore(kept)
        self._run = record(self._step, device)
        self._restore(kept)

    def step(self, samples: Tensor) -> Tensor:
        """samples: float [B, 2560]; soft tokens [B, 1, D], which the next step writes over."""
        self._samples.copy_(samples)
        self._run()
        return self._tokens

    @torch.inference_mode()
    def _step(self) -> None:
        features, after = self._encoder.step(self._samples, self.state)
        self._tokens.copy_(self._embedder.soft(features))
        self._restore(_tensors(after))

    def _restore(self, tensors: list[Tensor]) -> None:
        for to, of in zip(_tensors(self.state), tensors, strict=True):
            to.copy_(of)


def _tensors(state: Any) -> list[Tensor]:
    """All tensors of a state, always in the same order."""
    if isinstance(state, Tensor):
        return [state]
    if is_dataclass(state):
        state = tuple(getattr(state, field.name) for field in fields(state))
    return [t for part in state for t in _tensors(part)] if isinstance(state, tuple) else []
