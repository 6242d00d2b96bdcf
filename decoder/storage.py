"""How weights are stored: as bf16, or by weight-only quantization as int8, int4 or bf12.

The definition of the forms, in plain torch: where each code lies, what number it stands for, and
the product with these numbers. `decoder.quantize` chooses the codes; the kernels read them where
they lie.

"bf12" is bf16 in 12 bits a weight, nothing lost: see `decoder.bf12`, whose `rest` is called a scale
here. Other quantized weights lie in blocks of 16 outputs, inputs a multiple of 32, with any stride
between blocks; a code is the integer plus 128 or 8. G groups of inputs share a scale:
    int8: uint8 [outputs / 16, 16 inputs], seen as [inputs / 4, 16 outputs, 4 inputs];
          scale bf16 [outputs / 16, 16 G], seen as [G = ceil(inputs / 128), 16 outputs]
    int4: uint8 [outputs / 16, 8 inputs], seen as [inputs / 8, 16 outputs, 4 bytes], where byte i
          has input i below and input i + 4 above; scale the same, G = inputs / 32
The first columns of such a matrix, by 32 inputs, are views of weight and scale; so are any blocks.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dragoman.decoder import bf12

FORMS = ("bf16", "bf12", "int8", "int4")
BITS = {"int8": 8, "int4": 4}  # of a code
GROUP_INPUTS = {"int8": 128, "int4": 32}  # inputs that share a scale
LEAST = 32  # inputs come in multiples of this
BLOCK = 16  # outputs of quantized weights beside each other
UNPACKED_BYTES = 8 * 2**20  # of weights at a time
Unpack = Callable[[str, Tensor, Tensor, torch.dtype], Tensor]


def shape(form: str, weight: Tensor) -> tuple[int, int]:
    """(outputs, inputs) of weights of any form."""
    if form == "bf16":
        return weight.shape[0], weight.shape[1]
    if form == "bf12":
        return weight.shape[0], weight.shape[1] * 2 // 3
    return BLOCK * weight.shape[0], weight.shape[1] * 8 // (BLOCK * BITS[form])


def blocks(form: str) -> int:
    """Outputs that lie beside each other."""
    return BLOCK if form in BITS else 1


def least(form: str) -> int:
    """What numbers of inputs are a multiple of."""
    return bf12.GROUP if form == "bf12" else LEAST


def stored(module: nn.Module) -> tuple[str, Tensor, Tensor | None]:
    """Form, weight and scale of a linear layer, or of the quantized one in its place."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return getattr(module, "form", "bf16"), weight, getattr(module, "scale", None)


def unpacked(form: str, weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Quantized weights as numbers of `dtype` [outputs, inputs], each rounded once."""
    if form == "bf12":
        return bf12.unpacked(weight, scale).to(dtype)
    codes = torch.unflatten(weight, -1, (-1, BLOCK, 4)).transpose(1, 2)
    scales = torch.unflatten(scale, -1, (-1, BLOCK)).transpose(1, 2)
    return _numbers(form, codes.flatten(0, 1), scales.flatten(0, 1), dtype)


def unpacked_rows(
    form: str, weight: Tensor, scale: Tensor, outputs: Tensor, dtype: torch.dtype
) -> Tensor:
    """The same of some outputs [N] alone: [N, inputs]."""
    if form == "bf12":
        return bf12.unpacked(weight[outputs], scale[outputs]).to(dtype)
    block, lane = outputs // BLOCK, outputs % BLOCK
    codes = torch.unflatten(weight, -1, (-1, BLOCK, 4))[block, :, lane]
    scales = torch.unflatten(scale, -1, (-1, BLOCK))[block, :, lane]
    return _numbers(form, codes, scales, dtype)


def product(
    form: str, x: Tensor, weight: Tensor, scale: Tensor, unpack: Unpack = unpacked
) -> Tensor:
    """x [..., inputs] @ weights^T -> [..., outputs], with the numbers that the weights stand for.

    Unpacks some outputs at a time, so that memory never holds the whole matrix. Raises ValueError
    where x has another number of inputs than the weights.
    """
    outputs, inputs = shape(form, weight)
    if x.shape[-1] != inputs:
        raise ValueError(f"expected x [..., {inputs}] for {form} weights, got {list(x.shape)}")
    y, block = x.new_empty(*x.shape[:-1], outputs), blocks(form)
    step = max(1, UNPACKED_BYTES // (block * inputs * x.element_size()))
    for i in range(0, len(weight), step):
        numbers = unpack(form, weight[i : i + step], scale[i : i + step], x.dtype)
        y[..., block * i : block * (i + step)] = F.linear(x, numbers)
    return y


def _numbers(form: str, codes: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """What codes [outputs, words, 4] and scales [outputs, groups] stand for."""
    if form == "int4":
        codes = torch.stack([codes & 15, codes >> 4], dim=-2)
    codes = codes.flatten(1)
    scales = scale.float().repeat_interleave(GROUP_INPUTS[form], dim=-1)[:, : codes.shape[1]]
    return ((codes.float() - 2 ** (BITS[form] - 1)) * scales).to(dtype)
