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
                query, key = queries[0, watched[1]], keys[0, watched[1] // groups]
                self.noted[watched] = self._shares(query[-self.wanted :], key)
        return super().mix(queries, keys, values)

    def _shares(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Softmax of queries [wanted, H] over keys [S, H], what is out of reach at zero."""
        scores = queries.float() @ keys[self.first_key :].float().T
        if self.mask is not None:
            scores = scores + self.mask[0, 0, -self.wanted :].float()
        elif self.causal:
            ahead = torch.ones_like(scores).triu(1 + scores.shape[1] - len(scores))
            scores = scores.masked_fill(ahead.bool(), -torch.inf)
        shares = scores.new_zeros(len(scores), len(keys))
        shares[:, self.first_key :] = scores.softmax(-1)
        return shares
