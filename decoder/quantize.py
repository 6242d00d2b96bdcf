"""A language model with its matrices in int8 or int4, the activations as they were.

Weight-only: each weight is a small integer times a scale that it shares with its neighbours (see
`kernels`), and products are made with the numbers this stands for. What stays as it is:
norms and AltUp's and LAuReL's small maps, 0.5 % of the weights of the released models, and the
per-layer table, of which a step reads a few rows. The token table, which is the output head as
well, has a form of its own.

Scales are rounded to bf16 first, and integers chosen for the rounded ones. int8 takes its largest
weight to 127. int4 takes the weight of the largest magnitude, whatever its sign, to -8 times 1,
0.95, ... 0.8, whichever leaves the smallest squared error of the group (8.3 % of the root mean
square of normal weights, against 9.7 % with one scale that takes it to 7). A zero point of its
own would bring 7.6 %, for 11 % more bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kernels
from decoder.layers import AltUp, Laurel, Linear, TokenTable
from decoder.model import LanguageModel

QUANTIZED = ("int8", "int4")
METHOD, FORMAT = "dragoman", 1  # of quantized weights in files
PIECE = 2**19  # weights that are worked on at a time, so that they stay in the cache
SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8)


@dataclass(frozen=True)
class Scheme:
    """The forms of the layers' matrices, and of the token table: None leaves that as it is.

    Raises ValueError for other forms.
    """

    layers: str
    head: str | None = "int8"

    def __post_init__(self):
        if self.layers not in QUANTIZED or self.head not in (*QUANTIZED, None):
            raise ValueError(
                f"expected {' or '.join(QUANTIZED)} for the layers, one of them or None for the "
                f"head, got {self.layers!r} and {self.head!r}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Scheme":
        """Reads a `quantization_config`; raises ValueError for one that is not of `to_dict`."""
        values = dict(values)
        method, version = values.pop("quant_method", None), values.pop("format", None)
        if method != METHOD:
            raise ValueError(
                f"quantization_config is of quant_method {method!r}, expected {METHOD!r}: take the "
                "original weights and quantize them with `dragoman models quantize`"
            )
        if version != FORMAT:
            raise ValueError(
                f"quantization_config is of format {version!r}, and this program reads {FORMAT}: "
                "quantize the original weights again"
            )
        if set(values) != {"layers", "head"}:
            keys = ", ".join(sorted(values))
            raise ValueError(f"quantization_config has the keys {keys}, expected head, layers")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The `quantization_config` of a folder whose weights have these forms."""
        return {"quant_method": METHOD, "format": FORMAT, "layers": self.layers, "head": self.head}


class QuantizedLinear(nn.Module):
    """Takes the place of a `Linear`: the same product with weights in int8 or int4."""

    weight: Tensor
    scale: Tensor

    def __init__(self, form: str, weight: Tensor, scale: Tensor):
        super().__init__()
        self.form = form
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    @property
    def inputs(self) -> int:
        return self.weight.shape[1] * (2 if self.form == "int4" else 1)

    def forward(
        self, x: Tensor, rows: int | slice | None = None, columns: int | None = None
    ) -> Tensor:
        """x [..., columns or inputs] -> [..., rows or outputs], through views of the weights."""
        weight, scale = self.weight, self.scale
        if rows is not None:
            chosen = rows if isinstance(rows, slice) else slice(rows)
            weight, scale = weight[chosen], scale[chosen]
        if columns is not None and columns < self.inputs:
            spare = -columns % kernels.LEAST
            x, columns = F.pad(x, (0, spare)) if spare else x, columns + spare
            weight = weight[:, : columns * weight.shape[1] // self.inputs]
            scale = scale[:, : -(-columns // kernels.GROUPS[self.form])]
        return kernels.quantized_linear(self.form, x, weight, scale)


class QuantizedTokenTable(nn.Module):
    """Takes the place of a `TokenTable`; embeddings are the same numbers as the head's rows."""

    weight: Tensor
    scale: Tensor

    def __init__(self, form: str, weight: Tensor, scale: Tensor, dtype: torch.dtype):
        super().__init__()
        self.form, self.dtype = form, dtype
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    def forward(self, ids: Tensor) -> Tensor:
        """ids [...] -> [..., D]."""
        flat = ids.flatten()
        rows = kernels.unpacked(self.form, self.weight[flat], self.scale[flat], self.dtype)
        return rows.view(*ids.shape, rows.shape[-1])

    def logits(self, x: Tensor) -> Tensor:
        """x [..., D] -> [..., V]."""
        return kernels.quantized_linear(self.form, x, self.weight, self.scale)


def quantize(
    model: LanguageModel, scheme: Scheme, dtype: torch.dtype | None = None
) -> LanguageModel:
    """Quantizes in place, one matrix after the other, so that memory never holds both forms.

    On the meta device it makes the places for weights that are quantized already; then `dtype` says
    what the activations will be, which is otherwise the model's own. Raises ValueError for weights
    that are not finite numbers.
    """
    for path, form in plan(model, scheme).items():
        name, _, last = path.rpartition(".")
        parent = model.get_submodule(name)
        module = getattr(parent, last)
        try:
            weight, scale = quantized(form, module.weight.detach())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        if isinstance(module, TokenTable):
            new: nn.Module = QuantizedTokenTable(form, weight, scale, dtype or model.dtype)
        else:
            new = QuantizedLinear(form, weight, scale)
        setattr(parent, last, new.train(model.training))
    return model


def plan(model: LanguageModel, scheme: Scheme) -> dict[str, str]:
    """The modules that `quantize` replaces, and by which form."""
    small = tuple(
        f"{name}." for name, module in model.named_modules() if isinstance(module, AltUp | Laurel)
    )
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, TokenTable):
            form = scheme.head
        elif isinstance(module, Linear) and not name.startswith(small):
            form = scheme.layers
        else:
            continue
        if form is not None and module.weight.shape[1] % kernels.LEAST == 0:
            found[name] = form
    return found


def quantized(form: str, weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight [outputs, inputs] -> what stands for it, and its scales; see `kernels`.

    Raises ValueError for weights that are not finite numbers, or not a multiple of 32 inputs.
    """
    outputs, inputs = weight.shape
    if inputs % kernels.LEAST:
        raise ValueError(f"inputs must be a multiple of {kernels.LEAST}, got {inputs}")
    groups = -(-inputs // kernels.GROUPS[form])
    small, kind = (inputs // 2, torch.uint8) if form == "int4" else (inputs, torch.int8)
    codes = torch.empty(outputs, small, dtype=kind, device=weight.device)
    scale = torch.empty(outputs, groups, dtype=torch.bfloat16, device=weight.device)
    if weight.is_meta:
        return codes, scale
    choose = _int4 if form == "int4" else _int8
    step = max(1, PIECE // inputs)
    for i in range(0, outputs, step):
        codes[i : i + step], scale[i : i + step] = choose(weight[i : i + step].float())
    if not scale.isfinite().all():
        raise ValueError("weights are not finite: the checkpoint is damaged, get it again")
    return codes, scale


def _int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    inputs = weight.shape[1]
    groups = F.pad(weight, (0, -inputs % kernels.GROUPS["int8"]))
    groups = groups.unflatten(-1, (-1, kernels.GROUPS["int8"]))
    scale = _rounded(groups.abs().amax(-1) / 127)
    codes = _integers(groups, scale, -127, 127).to(torch.int8)
    return codes.flatten(1)[:, :inputs], scale.to(torch.bfloat16)


def _int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    groups = weight.unflatten(-1, (-1, kernels.GROUPS["int4"]))
    largest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True)).squeeze(-1)
    best = scale = torch.full_like(largest, torch.inf)
    for shrink in SHRINKS:
        tried = _rounded(largest / -8 * shrink)
        missed = _integers(groups, tried, -8, 7).mul_(tried[..., None]).sub_(groups)
        error = missed.square_().sum(-1)
        better = error < best
        best, scale = torch.where(better, error, best), torch.where(better, tried, scale)
    return _packed(_integers(groups, scale, -8, 7)), scale.to(torch.bfloat16)


def _packed(values: Tensor) -> Tensor:
    """Integers -8 to 7 [outputs, groups, 32] as bytes [outputs, 16 groups]."""
    nibbles = (values + 8).to(torch.uint8).unflatten(-1, (4, 2, 4))  # byte, half of it, word
    return (nibbles[..., 0, :] | nibbles[..., 1, :] << 4).transpose(-1, -2).flatten(1)


def _integers(groups: Tensor, scale: Tensor, least: int, most: int) -> Tensor:
    """The nearest multiples of each group's scale; zeros where that is zero."""
    divisor = torch.where(scale == 0, 1.0, scale)[..., None]
    return (groups / divisor).round_().clamp_(least, most)


def _rounded(scale: Tensor) -> Tensor:
    """Float32 values that bf16 can hold."""
    return scale.to(torch.bfloat16).float()
