"""Weight-only quantization: a language model whose matrices are in int8, int4 or bf12.

Activations stay in floating point. bf12 is bf16 in 12 bits, nothing lost (see `decoder.bf12`). In
int8 and int4 each weight is a small integer times a scale that it shares with its neighbours; a
product is made with the numbers that this stands for (see `decoder.storage`). Norms and AltUp's and
LAuReL's small maps stay as they are: 0.5 % of the weights of the released models. So does the
per-layer table, of which a step reads a few rows. The token table, which is the output head as
well, has a form of its own.

Scales are rounded to bf16 first, and integers chosen for the rounded ones. int8 takes its largest
weight to 127. int4 takes the weight of the largest magnitude, whatever its sign, to -8 times 1,
0.95, ... 0.8, whichever leaves the smallest squared error of the group (8.3 % of the root mean
square of normal weights, against 9.7 % with one scale that takes it to 7). A zero point of its
own would bring 7.6 %, for 11 % more bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dragoman.decoder import bf12, storage
from dragoman.decoder.layers import AltUp, Laurel, Linear, TokenTable
from dragoman.decoder.model import LanguageModel

QUANTIZED = ("int8", "int4", "bf12")
METHOD, FORMAT = "dragoman", 2  # of quantized weights in files
PIECE = 2**18  # weights that are worked on at a time, so that they stay in the cache
INFINITE = 0x7F80  # bits of infinity in bf16; those of what is no number come after it
DAMAGED = "weights are not finite: the checkpoint is damaged, get it again"
SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8)


@dataclass(frozen=True)
class Scheme:
    """The forms of the layers' matrices, of the token table, and of the audio tower's matrices in a
    folder that has one: None leaves them as they are.

    Raises ValueError for other forms.
    """

    layers: str
    head: str | None = "int8"
    audio: str | None = None

    def __post_init__(self):
        others = (*QUANTIZED, None)
        if self.layers not in QUANTIZED or self.head not in others or self.audio not in others:
            raise ValueError(
                f"expected {', '.join(QUANTIZED)} for the layers, one of them or None for the head "
                f"and the audio tower, got {self.layers!r}, {self.head!r} and {self.audio!r}"
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
        if not {"layers", "head"} <= set(values) <= {"layers", "head", "audio"}:
            keys = ", ".join(sorted(values))
            raise ValueError(
                f"quantization_config has the keys {keys}, expected head, layers and perhaps audio"
            )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The `quantization_config` of a folder whose weights have these forms."""
        forms = {"layers": self.layers, "head": self.head}
        audio = {"audio": self.audio} if self.audio else {}
        return {"quant_method": METHOD, "format": FORMAT, **forms, **audio}


class Quantized(nn.Module):
    """A matrix of a `form` of `decoder.storage`."""

    weight: Tensor
    scale: Tensor

    def __init__(self, form: str, weight: Tensor, scale: Tensor):
        super().__init__()
        self.form = form
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    def product(self, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        """x [..., inputs] -> [..., outputs], by the matrix or a view of it."""
        return storage.product(self.form, x, weight, scale)


class QuantizedLinear(Quantized):
    """Takes the place of a `Linear`: the same product with weights in another form."""

    @property
    def inputs(self) -> int:
        return storage.shape(self.form, self.weight)[1]

    def forward(
        self, x: Tensor, rows: int | slice | None = None, columns: int | None = None
    ) -> Tensor:
        """x [..., columns or inputs] -> [..., rows or outputs], through views of the weights."""
        weight, scale, wanted = self.weight, self.scale, None
        if rows is not None:
            chosen = rows if isinstance(rows, slice) else slice(rows)
            blocks, wanted = _blocks(chosen, storage.blocks(self.form))
            weight, scale = weight[blocks], scale[blocks]
        if columns is not None and columns < self.inputs:
            spare = -columns % storage.least(self.form)
            x, columns = F.pad(x, (0, spare)) if spare else x, columns + spare
            weight = weight[:, : columns * weight.shape[1] // self.inputs]
            if self.form in storage.GROUP_INPUTS:
                scale = scale[:, : -(-columns // storage.GROUP_INPUTS[self.form]) * storage.BLOCK]
        y = self.product(x, weight, scale)
        return y if wanted is None else y[..., wanted]


class QuantizedTokenTable(Quantized):
    """Takes the place of a `TokenTable`; embeddings are the same numbers as the head's rows."""

    def __init__(self, form: str, weight: Tensor, scale: Tensor, dtype: torch.dtype):
        super().__init__(form, weight, scale)
        self.dtype = dtype

    def forward(self, ids: Tensor) -> Tensor:
        """ids [...] -> [..., D]."""
        flat = ids.flatten()
        rows = storage.unpacked_rows(self.form, self.weight, self.scale, flat, self.dtype)
        return rows.view(*ids.shape, rows.shape[-1])

    def logits(self, x: Tensor) -> Tensor:
        """x [..., D] -> [..., V]."""
        return self.product(x, self.weight, self.scale)


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
    modules = dict(cast("Iterable[tuple[str, nn.Module]]", model.named_modules()))
    small = tuple(
        f"{name}." for name, module in modules.items() if isinstance(module, AltUp | Laurel)
    )
    found: dict[str, str] = {}
    for name, module in modules.items():
        if isinstance(module, TokenTable):
            form = scheme.head
        elif isinstance(module, Linear) and not name.startswith(small):
            form = scheme.layers
        else:
            continue
        if form is not None and fits(form, module.weight):
            found[name] = form
    return found


def fits(form: str, weight: Tensor) -> bool:
    """Whether a matrix [outputs, inputs] can have a form."""
    outputs, inputs = weight.shape
    if form == "bf12" and inputs > bf12.MOST_INPUTS:
        return False
    return not (outputs % storage.blocks(form) or inputs % storage.least(form))


def quantized(form: str, weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight [outputs, inputs] -> what stands for it, and its scales; see `decoder.storage`.

    Raises ValueError for weights that are not finite numbers, or whose outputs and inputs do not
    come in the multiples that the form takes. On the meta device, where nothing is known of the
    weights, what bf12 leaves out is thought to take the least room.
    """
    outputs, inputs = weight.shape
    if not fits(form, weight):
        raise ValueError(
            f"expected a multiple of {storage.blocks(form)} outputs and of {storage.least(form)} "
            f"inputs, got {outputs} and {inputs} (bf12: at most {bf12.MOST_INPUTS} inputs)"
        )
    if weight.is_meta:
        return _places(form, outputs, inputs)
    choose = {"int4": _int4, "int8": _int8, "bf12": _bf12}[form]
    block = storage.blocks(form)
    codes: Tensor | None = None
    scales: list[Tensor] = []
    step = max(1, PIECE // (block * inputs))
    for i in range(0, outputs // block, step):
        piece, scale = choose(weight[block * i : block * (i + step)])
        if codes is None:
            codes = piece.new_empty(outputs // block, piece.shape[1])
        codes[i : i + step] = piece
        scales.append(scale)
    assert codes is not None
    return codes, joined(form, scales)


def joined(form: str, scales: Sequence[Tensor]) -> Tensor:
    """The scales of a matrix whose blocks were quantized piece by piece."""
    if form == "bf12":
        wide = max(scale.shape[1] for scale in scales)
        scales = [bf12.widened(scale, wide) for scale in scales]
    return torch.cat(list(scales))


def _places(form: str, outputs: int, inputs: int) -> tuple[Tensor, Tensor]:
    """Codes and scales without memory."""
    if form == "bf12":
        return bf12.packed(torch.empty(outputs, inputs, device="meta"))
    blocks, groups = outputs // storage.BLOCK, -(-inputs // storage.GROUP_INPUTS[form])
    wide = storage.BLOCK * inputs // (2 if form == "int4" else 1)
    codes = torch.empty(blocks, wide, dtype=torch.uint8, device="meta")
    scale = torch.empty(blocks, storage.BLOCK * groups, dtype=torch.bfloat16, device="meta")
    return codes, scale


def _bf12(weight: Tensor) -> tuple[Tensor, Tensor]:
    weight = weight.to(torch.bfloat16)
    if (weight.view(torch.int16) & 0x7FFF).amax() >= INFINITE:
        raise ValueError(DAMAGED)
    return bf12.packed(weight)


def _int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    weight, inputs = weight.float(), weight.shape[1]
    groups = F.pad(weight, (0, -inputs % storage.GROUP_INPUTS["int8"]))
    groups = torch.unflatten(groups, -1, (-1, storage.GROUP_INPUTS["int8"]))
    scale = _rounded(groups.abs().amax(-1) / 127)
    integers = _integers(groups, scale, -127, 127).flatten(1)[:, :inputs]
    codes = torch.unflatten((integers + 128).to(torch.uint8), -1, (-1, 4))
    return _beside(codes), _beside(scale.to(torch.bfloat16))


def _int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    groups = torch.unflatten(weight.float(), -1, (-1, storage.GROUP_INPUTS["int4"]))
    largest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True)).squeeze(-1)
    best = scale = torch.full_like(largest, torch.inf)
    for shrink in SHRINKS:
        tried = _rounded(largest / -8 * shrink)
        missed = _integers(groups, tried, -8, 7).mul_(tried[..., None]).sub_(groups)
        error = missed.square_().sum(-1)
        better = error < best
        best, scale = torch.where(better, error, best), torch.where(better, tried, scale)
    codes = (_integers(groups, scale, -8, 7) + 8).to(torch.uint8)
    codes = torch.unflatten(codes.flatten(1), -1, (-1, 2, 4))
    return _beside(codes[..., 0, :] | codes[..., 1, :] << 4), _beside(scale.to(torch.bfloat16))


def _beside(rows: Tensor) -> Tensor:
    """Rows [outputs, pieces, ...] with the same piece of 16 outputs beside each other: two axes."""
    return torch.unflatten(rows, 0, (-1, storage.BLOCK)).transpose(1, 2).flatten(1)


def _blocks(rows: slice, block: int) -> tuple[slice, slice]:
    """The blocks of some outputs, and where these are in them."""
    first = rows.start or 0
    start, stop = first // block, -(-rows.stop // block)
    skipped = first - block * start
    return slice(start, stop), slice(skipped, skipped + rows.stop - first)


def _integers(groups: Tensor, scale: Tensor, least: int, most: int) -> Tensor:
    """The nearest multiples of each group's scale; zeros where that is zero."""
    divisor = torch.where(scale == 0, 1.0, scale)[..., None]
    return (groups / divisor).round_().clamp_(least, most)


def _rounded(scale: Tensor) -> Tensor:
    """Float32 values that bf16 can hold; raises ValueError where they are none."""
    scale = scale.to(torch.bfloat16).float()
    if not scale.isfinite().all():
        raise ValueError(DAMAGED)
    return scale
