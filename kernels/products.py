"""Products with weights of bf16, int8 or int4, for few rows of x at the speed of the memory.

A decode step reads every weight once and does next to nothing with it. So the code that runs on a
CPU for a few rows of x is made at run time (`kernels.loops`): it reads each
weight once, unpacks it in registers, and runs in torch's own threads. For many rows, weights are
unpacked a block at a time and multiplied by torch. Without llvmlite, or on an accelerator, torch
does all of it.

Quantized weights are [outputs, inputs], inputs a multiple of 32, with any stride between outputs:
    int8: int8 [outputs, inputs], scale bf16 [outputs, ceil(inputs / 128)]
    int4: uint8 [outputs, inputs / 2], scale bf16 [outputs, inputs / 32]. 32 inputs are 4
          little-endian words of 32 bits; bits 4 j to 4 j + 3 of word r are input 4 j + r, plus 8.
The first columns, by 32, of such a matrix are views of weight and scale; so are any rows.
"""

import sys
from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from kernels.compiler import Program

GROUPS = {"int8": 128, "int4": 32}  # inputs that share a scale
LEAST = 32  # inputs come in multiples of this
MOST_ROWS = {"bf16": 16, "int8": 24, "int4": 40}  # of x; beyond, torch is quicker
PART_ROWS = 8  # of x at a time
BLOCK_BYTES = 8 * 2**20  # of unpacked weights at a time
ALONE_BYTES = 2**18  # of weights, which one thread has read before a second one would begin
FLOATS = (torch.bfloat16, torch.float32)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x [..., inputs] @ weight [outputs, inputs]^T -> [..., outputs], as `F.linear`."""
    alike = weight.dtype == x.dtype == torch.bfloat16 and weight.shape[-1] == x.shape[-1]
    if alike and _serves("bf16", x, weight):
        return _product("bf16", x, weight, None)
    return F.linear(x, weight)


def quantized_linear(form: str, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x [..., inputs] @ weights^T -> [..., outputs]; `form` is "int8" or "int4".

    Raises ValueError where x has another number of inputs than the weights.
    """
    outputs, inputs = _shape(form, weight)
    if x.shape[-1] != inputs:
        raise ValueError(f"expected x [..., {inputs}] for {form} weights, got {list(x.shape)}")
    if x.dtype in FLOATS and _serves(form, x, weight):
        return _product(form, x, weight, scale)
    y = x.new_empty(*x.shape[:-1], outputs)
    step = max(1, BLOCK_BYTES // (inputs * x.element_size()))
    for i in range(0, outputs, step):
        some = slice(i, i + step)
        y[..., some] = F.linear(x, unpacked(form, weight[some], scale[some], x.dtype))
    return y


def unpacked(form: str, weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Quantized weights as numbers of `dtype` [outputs, inputs], each rounded once."""
    outputs, inputs = _shape(form, weight)
    on_cpu = weight.device.type == "cpu" and inputs % LEAST == 0
    if dtype not in FLOATS or not on_cpu or not available():
        return unpacked_by_torch(form, weight, scale, dtype)
    y = torch.empty(outputs, inputs, dtype=dtype)
    _unpacking(form, dtype == torch.bfloat16).run(
        _threads(weight), y.data_ptr(), weight.data_ptr(), scale.data_ptr(), outputs, inputs,
        _stride(weight), _stride(scale),
    )  # fmt: skip
    return y


def unpacked_by_torch(form: str, weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The same on any device, in several passes over memory."""
    inputs = _shape(form, weight)[1]
    if form == "int4":
        words = weight.unflatten(-1, (-1, 4, 4)).int()  # [outputs, groups, words, bytes]
        nibbles = torch.stack([words[..., j // 2] >> 4 * (j % 2) & 15 for j in range(8)], dim=-2)
        weight = nibbles.flatten(-3) - 8
    scales = scale.float().repeat_interleave(GROUPS[form], dim=-1)[..., :inputs]
    return (weight * scales).to(dtype)


@cache
def available() -> bool:
    """Whether code can be made for this machine; if not, torch does everything."""
    try:
        from kernels.compiler import works
    except ImportError:
        return False
    return works() and sys.byteorder == "little"


def differentiated(*tensors: Tensor) -> bool:
    """Whether a gradient is wanted of any of these: then it is torch's to do."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _serves(form: str, x: Tensor, weight: Tensor) -> bool:
    """Whether our code can take these."""
    inputs = x.shape[-1]
    return (
        0 < x.numel() <= MOST_ROWS[form] * inputs
        and inputs % LEAST == 0
        and x.device.type == weight.device.type == "cpu"
        and weight.stride(-1) == 1
        and not differentiated(x, weight)
        and available()
    )


def _product(form: str, x: Tensor, weight: Tensor, scale: Tensor | None) -> Tensor:
    inputs, outputs, threads = x.shape[-1], weight.shape[0], _threads(weight)
    x = x.contiguous()
    y = torch.empty(*x.shape[:-1], outputs, dtype=x.dtype)
    rows, size, half = x.numel() // inputs, x.element_size(), x.dtype == torch.bfloat16
    step = -(-rows // -(-rows // PART_ROWS))  # equal parts
    scratch = torch.empty(threads * scratch_bytes(form, half, step, inputs), dtype=torch.uint8)
    for first in range(0, rows, step):
        _program(form, half, min(step, rows - first)).run(
            threads, y.data_ptr() + first * outputs * size, x.data_ptr() + first * inputs * size,
            weight.data_ptr(), 0 if scale is None else scale.data_ptr(), scratch.data_ptr(),
            outputs, inputs, _stride(weight), 0 if scale is None else _stride(scale),
        )  # fmt: skip
    return y


@cache
def _program(form: str, half: bool, rows: int) -> "Program":
    from kernels.loops import product

    return product(form, half, rows)


@cache
def scratch_bytes(form: str, half: bool, rows: int, inputs: int) -> int:
    """The scratch memory that each thread of a product needs."""
    from kernels import loops

    return loops.scratch_bytes(form, half, inputs, rows)


@cache
def _unpacking(form: str, half: bool) -> "Program":
    from kernels.loops import unpacking

    return unpacking(form, half)


def _threads(weight: Tensor) -> int:
    return 1 if weight.nbytes < ALONE_BYTES else torch.get_num_threads()


def _stride(matrix: Tensor) -> int:
    """Bytes from one output to the next."""
    return matrix.stride(0) * matrix.element_size()


def _shape(form: str, weight: Tensor) -> tuple[int, int]:
    """(outputs, inputs) of quantized weights."""
    return weight.shape[0], weight.shape[1] * (2 if form == "int4" else 1)
