"""Products with weights of bf16, bf12, int8 or int4, at the speed of the memory for few rows of x.

A decode step reads every weight once and does next to nothing with it. So the code that runs on a
CPU is made at run time: `kernels.loops` for few rows of x and weights of bf16 and bf12,
`kernels.block_loops` for int8 and int4 and any number of rows. It reads each weight once, unpacks
it in registers, and runs in torch's own threads. Without llvmlite, or on an accelerator, torch does
all of it.

"bf12" is bf16 in 12 bits a weight, nothing lost: see `kernels.twelve`, whose `rest` is called a
scale here. Other quantized weights lie in blocks of 16 outputs, inputs a multiple of 32, with any
stride between blocks; a code is the integer plus 128 or 8. G groups of inputs share a scale:
    int8: uint8 [outputs / 16, 16 inputs], seen as [inputs / 4, 16 outputs, 4 inputs];
          scale bf16 [outputs / 16, 16 G], seen as [G = ceil(inputs / 128), 16 outputs]
    int4: uint8 [outputs / 16, 8 inputs], seen as [inputs / 8, 16 outputs, 4 bytes], where byte i
          has input i below and input i + 4 above; scale the same, G = inputs / 32
The first columns of such a matrix, by 32 inputs, are views of weight and scale; so are any blocks.
Where the CPU multiplies bytes, x is rounded to int8, with a scale for each group of a row.
"""

import sys
from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from dragoman.kernels import twelve

if TYPE_CHECKING:
    from dragoman.kernels.compiler import Program

GROUPS = {"int8": 128, "int4": 32}  # inputs that share a scale
FORMS = ("bf16", "bf12", "int8", "int4")
BITS = {"int8": 8, "int4": 4}
LEAST = 32  # inputs come in multiples of this
BLOCK = 16  # outputs of quantized weights beside each other
MOST_ROWS = 32  # of x for weights of bf16 and bf12; beyond, torch is quicker
PART_ROWS = 16  # of those at a time
BLOCKS_ROWS = 256  # of x for quantized weights at a time
UNPACKED_BYTES = 8 * 2**20  # of weights at a time
ALONE_BYTES = 2**18  # of weights, which one thread has read before a second one would begin
FLOATS = (torch.bfloat16, torch.float32)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x [..., inputs] @ weight [outputs, inputs]^T -> [..., outputs], as `F.linear`."""
    few = 0 < x.numel() <= MOST_ROWS * x.shape[-1]
    alike = weight.dtype == x.dtype == torch.bfloat16 and weight.shape[-1] == x.shape[-1]
    if alike and few and _serves(x, weight):
        return _product("bf16", x, weight, None, weight.shape[0])
    return F.linear(x, weight)


def quantized_linear(form: str, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x [..., inputs] @ weights^T -> [..., outputs]; `form` is "int8", "int4" or "bf12".

    Raises ValueError where x has another number of inputs than the weights.
    """
    outputs, inputs = shape(form, weight)
    if x.shape[-1] != inputs:
        raise ValueError(f"expected x [..., {inputs}] for {form} weights, got {list(x.shape)}")
    few = form in BITS or x.numel() <= MOST_ROWS * inputs
    if x.dtype in FLOATS and x.numel() and few and _serves(x, weight, form):
        return _product(form, x, weight, scale, outputs)
    y, block = x.new_empty(*x.shape[:-1], outputs), blocks(form)
    step = max(1, UNPACKED_BYTES // (block * inputs * x.element_size()))
    for i in range(0, len(weight), step):
        numbers = unpacked(form, weight[i : i + step], scale[i : i + step], x.dtype)
        y[..., block * i : block * (i + step)] = F.linear(x, numbers)
    return y


def unpacked(form: str, weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Quantized weights as numbers of `dtype` [outputs, inputs], each rounded once."""
    if form == "bf12":
        return _unpacked_twelve(weight, scale).to(dtype)
    codes = weight.unflatten(-1, (-1, BLOCK, 4)).transpose(1, 2)
    scales = scale.unflatten(-1, (-1, BLOCK)).transpose(1, 2)
    return _numbers(form, codes.flatten(0, 1), scales.flatten(0, 1), dtype)


def unpacked_rows(
    form: str, weight: Tensor, scale: Tensor, outputs: Tensor, dtype: torch.dtype
) -> Tensor:
    """The same of some outputs [N] alone: [N, inputs]."""
    if form == "bf12":
        return twelve.unpacked(weight[outputs], scale[outputs]).to(dtype)
    block, lane = outputs // BLOCK, outputs % BLOCK
    codes = weight.unflatten(-1, (-1, BLOCK, 4))[block, :, lane]
    return _numbers(form, codes, scale.unflatten(-1, (-1, BLOCK))[block, :, lane], dtype)


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
    return twelve.GROUP if form == "bf12" else LEAST


def _numbers(form: str, codes: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """What codes [outputs, words, 4] and scales [outputs, groups] stand for."""
    if form == "int4":
        codes = torch.stack([codes & 15, codes >> 4], dim=-2)
    codes = codes.flatten(1)
    scales = scale.float().repeat_interleave(GROUPS[form], dim=-1)[:, : codes.shape[1]]
    return ((codes.float() - 2 ** (BITS[form] - 1)) * scales).to(dtype)


@cache
def available() -> bool:
    """Whether code can be made for this machine; if not, torch does everything."""
    try:
        from dragoman.kernels.compiler import works
    except ImportError:
        return False
    return works() and sys.byteorder == "little"


def differentiated(*tensors: Tensor) -> bool:
    """Whether a gradient is wanted of any of these: then it is torch's to do."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def parts(form: str, half: bool, rows: int) -> list[tuple["Program", int, int]]:
    """The programs that together multiply `rows` rows of x; the first row of each, and how many.

    x and y are bf16 (`half`) or float32. For their arguments see `kernels.loops` and
    `kernels.block_loops`.
    """
    most = BLOCKS_ROWS if form in BITS else PART_ROWS
    step = -(-rows // -(-rows // most))  # equal parts
    return [
        (_program(form, half, min(step, rows - first)), first, min(step, rows - first))
        for first in range(0, rows, step)
    ]


def scratch_bytes(form: str, half: bool, rows: int, inputs: int) -> int:
    """The scratch memory that each thread of a product of `parts` needs."""
    from dragoman.kernels import block_loops, loops

    if form in BITS:
        return block_loops.scratch_bytes(form, inputs, min(rows, BLOCKS_ROWS))
    return loops.scratch_bytes(half, inputs, min(rows, PART_ROWS))


def multiplies(form: str, weight: Tensor) -> bool:
    """Whether programs of `parts` take these weights."""
    fit = shape(form, weight)[1] % least(form) == 0
    return fit and (_unpacks() if form == "bf12" else available())


def _serves(x: Tensor, weight: Tensor, form: str = "bf16") -> bool:
    """Whether our code can take these."""
    return (
        x.device.type == weight.device.type == "cpu"
        and weight.stride(-1) == 1
        and not differentiated(x, weight)
        and multiplies(form, weight)
    )


@cache
def _unpacks() -> bool:
    """Whether this CPU has what weights of 12 bits take."""
    if not available():
        return False
    from dragoman.kernels.compiler import has_look_up, lanes

    return has_look_up(lanes())


def _unpacked_twelve(weight: Tensor, rest: Tensor) -> Tensor:
    if not (weight.is_cpu and _unpacks()):
        return twelve.unpacked(weight, rest)
    from dragoman.kernels import loops

    outputs, inputs = shape("bf12", weight)
    y, program = weight.new_empty(outputs, inputs, dtype=torch.bfloat16), loops.unpacking()
    given = {"y": y.data_ptr(), "outputs": outputs, "inputs": inputs, **operands(weight, rest)}
    program.run(_threads(weight), *(given[name] for name in program.arguments))
    return y


def _product(form: str, x: Tensor, weight: Tensor, scale: Tensor | None, outputs: int) -> Tensor:
    inputs, threads = x.shape[-1], _threads(weight)
    x = x.contiguous()
    y = torch.empty(*x.shape[:-1], outputs, dtype=x.dtype)
    rows, size, half = x.numel() // inputs, x.element_size(), x.dtype == torch.bfloat16
    bytes_ = threads * scratch_bytes(form, half, rows, inputs)
    scratch = torch.empty(bytes_, dtype=torch.uint8)
    for program, first, count in parts(form, half, rows):
        given = {
            "y": y.data_ptr() + first * outputs * size,
            "x": x.data_ptr() + first * inputs * size,
            **operands(weight, scale),
            "scratch": scratch.data_ptr(),
            "rows": count,
            "outputs": outputs,
            "inputs": inputs,
        }
        program.run(threads, *(given[name] for name in program.arguments))
    return y


def operands(weight: Tensor, scale: Tensor | None) -> dict[str, int]:
    """Where weights are, as arguments of a program."""
    return {"weight": weight.data_ptr(), "stride": _stride(weight), **beside(scale)}


def beside(scale: Tensor | None) -> dict[str, int]:
    """Where scales are, the same way."""
    return {} if scale is None else {"scale": scale.data_ptr(), "scale_stride": _stride(scale)}


@cache
def _program(form: str, half: bool, rows: int) -> "Program":
    from dragoman.kernels import block_loops, loops

    if form in BITS:
        return block_loops.product(form, half, block_loops.tile(rows))
    return loops.product(half, rows, form)


def _threads(weight: Tensor) -> int:
    return 1 if weight.nbytes < ALONE_BYTES else torch.get_num_threads()


def _stride(matrix: Tensor) -> int:
    """Bytes from one row to the next."""
    return matrix.stride(0) * matrix.element_size()
