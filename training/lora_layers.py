"""Low-rank changes of a loaded model's matrices (LoRA), and the PEFT folder that holds them.

Used by :mod:`training.lora`; :mod:`models.adapters` reads what is written here. A matrix W of a
frozen model acts as W + alpha / r * B A, of which A [r, inputs] and B [outputs, r] are learnt. B
begins at zero, so training begins at the model as it is.

Unusual: a module that is changed stays the module it was, with another class: a subclass of its own
one. So everything that a model does (MatFormer slices, passes without the upper layers, streaming)
is done by the code that does it in production, and no copy of the model is kept for training.
Source: E. Hu et al., "LoRA", 2021; the file format of PEFT.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from dragoman.decoder.layers import Linear as DecoderLinear
from dragoman.encoders.linear import Linear as TowerLinear
from dragoman.errors import UsageError
from dragoman.models.adapters import WEIGHTS, WRAPPER
from dragoman.models.checkpoint import GROUPS
from dragoman.models.kinds import ADAPTER
from training.listener import Listener

# What may be changed, by official names: patterns as PEFT's `target_modules` has them.
TARGETS = {
    "text": r"model\.language_model\.layers\.\d+\."
    r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)",
    "audio": r"model\.audio_tower\.conformer\.\d+\."
    r"(attention\.(attn\.[qkv]_proj|post)|ffw_layer_(start|end)\.ffw_layer_[12]"
    r"|lconv1d\.linear_(start|end))",
}


@dataclass(frozen=True)
class Lora:
    """Which matrices are changed, by a pattern of their official names, and how much they may be:
    the rank r of a change, and its scale alpha / r.
    """

    targets: str = "|".join(TARGETS.values())
    rank: int = 16
    alpha: float = 32.0


class LowRank(nn.Linear):
    """A matrix with a change; stands in front of the class that multiplies by the matrix.

    lora_A: float32 [r, inputs]; lora_B: float32 [outputs, r]; both are learnt.
    """

    lora_A: nn.Parameter
    lora_B: nn.Parameter
    scale: float

    def begin(self, lora: Lora, generator: torch.Generator) -> None:
        """A change of nothing as yet, where the matrix is."""
        outputs, inputs = self.weight.shape
        bound = 1 / math.sqrt(inputs)  # PEFT's: Kaiming, uniform, with a = sqrt(5)
        drawn = torch.empty(lora.rank, inputs).uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(drawn.to(self.weight.device))
        self.lora_B = nn.Parameter(torch.zeros(outputs, lora.rank, device=self.weight.device))
        self.scale = lora.alpha / lora.rank

    def forward(
        self, input: Tensor, rows: int | slice | None = None, columns: int | None = None
    ) -> Tensor:
        """As the class behind it, whose rows or columns may act alone: those of the change, too."""
        chosen = rows if isinstance(rows, slice) else slice(rows)
        low = F.linear(input, self.lora_A[:, :columns].to(input.dtype))
        change = self.scale * F.linear(low, self.lora_B[chosen].to(input.dtype))
        if rows is None and columns is None:
            return super().forward(input) + change
        return super().forward(input, rows, columns) + change  # pyright: ignore[reportCallIssue]


@cache
def _changed(kind: type[nn.Linear]) -> type[Any]:
    return type(f"LowRank{kind.__name__}", (LowRank, kind), {})


def insert(model: Listener, lora: Lora, seed: int = 0) -> dict[str, LowRank]:
    """Gives the matrices that are meant a change; the modules by their official names.

    Raises UsageError where none is meant, or where a pattern means what is no plain matrix.
    """
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, LowRank] = {}
    for name, module in model.named_modules():
        official = _official(name)
        if official is None or re.fullmatch(lora.targets, official) is None:
            continue
        if type(module) not in (DecoderLinear, TowerLinear):
            raise UsageError(
                f"{official} is a {type(module).__name__}, which has no change of low rank: "
                "give a pattern of linear layers of the audio tower or the decoder"
            )
        module.__class__ = _changed(type(module))
        assert isinstance(module, LowRank)
        module.begin(lora, generator)
        found[official] = module
    if not found:
        raise UsageError(
            f"no matrix has a name like {lora.targets!r}: give a pattern of whole official names, "
            r"such as model\.language_model\.layers\.\d+\.self_attn\.[qv]_proj"
        )
    return found


def _official(name: str) -> str | None:
    """`model.language_model.layers.0...` of `language_model.layers.0...`."""
    group, _, rest = name.partition(".")
    return GROUPS[group] + rest if group in GROUPS else None


def weights(changed: Mapping[str, LowRank]) -> dict[str, nn.Parameter]:
    """What is learnt, by PEFT's names."""
    return {
        f"{WRAPPER}{name}.{half}.weight": getattr(module, half)
        for name, module in changed.items()
        for half in ("lora_A", "lora_B")
    }


def write(folder: Path, base: str, lora: Lora, changed: Mapping[str, LowRank]) -> None:
    """A PEFT adapter over the model ``base``, which `--model FOLDER` loads; the weights last, by
    a rename, so that what lies there is always whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "target_modules": lora.targets,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    text = json.dumps(config, indent=2) + "\n"
    (folder / ADAPTER).write_text(text, encoding="utf-8")
    tensors = {name: half.detach().cpu() for name, half in weights(changed).items()}
    unfinished = folder / f"{WEIGHTS}.unfinished"
    save_file(tensors, unfinished, metadata={"format": "pt"})
    unfinished.rename(folder / WEIGHTS)
