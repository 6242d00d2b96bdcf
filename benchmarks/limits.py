"""What a pass must read and compute at the least, counted from a model's own weights.

Used to express results as a fraction of the machine's limits. Unusual: only matrix products with
weights are counted, because norms, attention over a few hundred positions and the like are small
beside them; and weights are counted as dense, so code that skips some of them may exceed 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dragoman.decoder import LanguageModel, TextConfig

PLE_TABLE = "embed_tokens_per_layer."


@dataclass(frozen=True)
class Work:
    """FLOPs of one token in a prompt (with the exact skip of the shared layers), and of what only
    the last position needs.
    """

    per_token: float
    last: float

    def flops(self, tokens: int) -> float:
        """Of a prompt of so many tokens that ends in one answer."""
        return self.per_token * tokens + self.last


def read_bytes(module: nn.Module) -> int:
    """Bytes of weights that one decoded token reads, in the form they are held.

    All tensors but the table of per-layer embeddings, of which a token reads one row.
    """
    tensors = dict(_tensors(module))
    whole = {name: t for name, t in tensors.items() if PLE_TABLE not in name}
    return sum(t.nbytes for t in whole.values())


def prompt_work(config: TextConfig) -> Work:
    """FLOPs of a prompt, from the shapes of the dense weights, whatever form they are in."""
    with torch.device("meta"):
        model = LanguageModel(config)
    matrices = {name: t.numel() for name, t in model.named_parameters() if t.dim() > 1}
    everywhere = sum(count for name, count in matrices.items() if _needed_everywhere(name, config))
    # Per-layer inputs of the layers that a position still passes through.
    skipped = config.num_kv_shared_layers / config.num_hidden_layers
    everywhere -= skipped * matrices["per_layer_model_projection.weight"]
    whole = sum(count for name, count in matrices.items() if PLE_TABLE not in name)
    return Work(2.0 * everywhere, 2.0 * (whole - everywhere))


def _needed_everywhere(name: str, config: TextConfig) -> bool:
    """Whether every position of a prompt passes through a weight, or only its last one."""
    head, _, rest = name.partition(".")
    if head == "layers":
        index = int(rest.split(".", 1)[0])
        if index == config.last_kv_owner:
            return ".k_proj." in name or ".v_proj." in name
        return index < config.last_kv_owner
    return head in ("altup_projections", "per_layer_model_projection")


def _tensors(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Parameters and buffers, each once, also those that a checkpoint leaves out."""
    yield from module.named_parameters()
    yield from module.named_buffers()
