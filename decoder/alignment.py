"""Where heads of the decoder look while it writes: how the words of a caption find their sound.

Who wants to know asks when a text is decoded, by a pass of its own over the ids of the text
(`LanguageModel.watch`). So nothing that chooses tokens is touched, no cache changes, and who does
not ask pays nothing. The pass ends at the highest of the heads, and makes no logits.

Unusual: layers know nothing of it. They hand queries and keys to a
:class:`~dragoman.decoder.layers.View`; a `Watching` one takes down what some heads make of them
before it does what it stands for. All layers of a type pass the same view in a known order, so it
counts them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dragoman.decoder.config import FULL, TextConfig
from dragoman.decoder.layers import View
from dragoman.decoder.slices import Plan, runs

Heads = tuple[tuple[int, int], ...]  # a layer, and one of its query heads
Noted = dict[tuple[int, int], Tensor]  # by head, float32 [wanted, S]


def full_heads(config: TextConfig) -> Heads:
    """All heads of the layers that see everything: what is watched where no better are known."""
    layers = [i for i, kind in enumerate(config.layer_kinds) if kind == FULL]
    return tuple((i, head) for i in layers for head in range(config.num_attention_heads))


def present(heads: Heads, plan: Plan, config: TextConfig) -> Heads:
    """Those of ``heads`` whose layers run by ``plan``; where none does, those that see everything
    in it.
    """
    layers = dict(plan.steps)
    found = [tuple(h for h in some if h[0] in layers) for some in (heads, full_heads(config))]
    return found[0] or found[1]


def up_to(plan: Plan, layer: int) -> Plan:
    """``plan`` without the layers above ``layer``: for a pass over all positions."""
    steps = tuple(step for step in plan.steps if step[0] <= layer)
    return replace(plan, steps=steps, blocks=runs(i for i, _ in steps))


def scores(view: View, queries: Tensor, keys: Tensor) -> Tensor:
    """How much each query looks at each key, before the softmax: float32 [B, N, L, S], what is out
    of reach at -inf.

    queries: [B, N, L, H], the last L that ``view`` is for; keys: [B, N or 1, first_key + S, H].
    """
    found = (queries @ keys[:, :, view.first_key :].transpose(2, 3)).float()
    L, S = found.shape[2:]
    if view.mask is not None:
        return found + view.mask[:, :, -L:].float()
    if view.causal:
        ahead = torch.ones(L, S, dtype=torch.bool, device=found.device).triu(1 + S - L)
        return found.masked_fill(ahead, -torch.inf)
    return found


@dataclass(frozen=True)
class Watching(View):
    """A view of one sequence that notes what ``heads`` see from the last ``wanted`` positions.

    layers: those that will pass it, in order.
    """

    layers: Iterator[int] = field(default_factory=lambda: iter(()))
    heads: Heads = ()
    wanted: int = 1
    noted: Noted = field(default_factory=dict[tuple[int, int], Tensor])

    @classmethod
    def of(
        cls, view: View, layers: Iterable[int], heads: Heads, wanted: int, noted: Noted
    ) -> "Watching":
        """What is seen through ``view`` is added to ``noted``."""
        seen = (view.cos, view.sin, view.mask, view.first_key, view.causal)
        return cls(*seen, iter(layers), heads, wanted, noted)

    def mix(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        layer, groups = next(self.layers), queries.shape[1] // keys.shape[1]
        for watched in self.heads:
            if watched[0] == layer:
                head, group = watched[1], watched[1] // groups
                query = queries[:, head : head + 1, -self.wanted :].float()
                key = keys[:, group : group + 1].float()
                shares = scores(self, query, key).softmax(-1)[0, 0]
                self.noted[watched] = F.pad(shares, (self.first_key, 0))  # out of reach: none
        return super().mix(queries, keys, values)
