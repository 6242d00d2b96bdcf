"""Shows some attention heads where in the speech each word of an answer was said.

Place: beside the losses of `training.model`. A decoder that has only its answers to learn from
spends most of a run as a language model, before it begins to listen. Words of synthesized speech
have known times, so a few heads can be told where to look, and the rest of the model finds there
what to write. Besides, such heads tell at run time which word was said when.

Unusual: the heads are watched, not changed. A hook computes their scores a second time, so the
model that is trained is the one that captions run on.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from dragoman.decoder import LanguageModel, alignment
from dragoman.decoder.layers import Attention, DecoderLayer, View, rotate


class Guide:
    """Watches ``heads``, pairs of a layer and a head in it, whose layer sees the whole context."""

    def __init__(self, model: LanguageModel, heads: Sequence[tuple[int, int]]) -> None:
        self._seen: list[Tensor] | None = None
        self.layers = frozenset(layer for layer, _ in heads)
        for number in self.layers:
            layer = model.layers[number]
            assert isinstance(layer, DecoderLayer) and not layer.sliding
            own = [head for other, head in heads if other == number]
            layer.self_attn.register_forward_hook(partial(self._watch, own))

    def begin(self) -> None:
        """Watches the passes from here to `loss`."""
        self._seen = []

    def loss(self, places: Tensor, start: int) -> Tensor:
        """How little the heads look at ``places``, int [B, L, 2]: of each token of the answers the
        first and the last soft token that may hold it, -1 where it is said nowhere. ``start`` is
        the position of the first soft token. In nats a token, a mean over the heads that ran.
        """
        seen, self._seen = self._seen or [], None
        told, L = places[..., 0] >= 0, places.shape[1]  # the answers come last
        found = [_inside(one[:, :, -L:], places, start) for one in seen]
        if not found:
            return torch.zeros((), device=places.device)
        each = torch.cat(found, dim=1).mean(1)
        return -(each * told).sum() / told.sum().clamp(min=1)

    def _watch(self, heads: list[int], module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if self._seen is None:
            return
        assert isinstance(module, Attention)
        x, view, keys, _ = inputs
        self._seen.append(scores(module, heads, x, view, keys))


def scores(
    attention: Attention, heads: Sequence[int], x: Tensor, view: View, keys: Tensor
) -> Tensor:
    """Log probabilities float32 [B, heads, L, S] of where ``heads`` look, from what `Attention`'s
    forward gets.
    """
    H = attention.head_dim
    chosen = [attention.q_proj(x, rows=slice(h * H, (h + 1) * H)) for h in heads]
    queries = rotate(attention.q_norm(torch.stack(chosen, dim=2)), view.cos, view.sin)
    per_key_head = attention.q_proj.out_features // H // keys.shape[1]
    keys = keys[:, [head // per_key_head for head in heads]]
    return alignment.scores(view, queries.transpose(1, 2), keys).log_softmax(-1)


def _inside(scores: Tensor, places: Tensor, start: int) -> Tensor:
    """Log of the probability [B, heads, L] that lies on the places of each token."""
    at = torch.arange(scores.shape[-1], device=scores.device) - start
    inside = (at >= places[..., :1]) & (at <= places[..., 1:])
    return scores.masked_fill(~inside[:, None], -1e4).logsumexp(-1)
