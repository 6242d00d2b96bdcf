"""Products with weights of bf16, bf12, int8 or int4, at the speed of the memory for few rows of x.

A decode step reads every weight once and does next to nothing with it. So a kernel reads each
weight once, where it lies, and unpacks it in registers: `kernels.loops` for few rows of x and
weights of bf16 and bf12, `kernels.block_loops` for int8 and int4 and any number of rows. What no
kernel takes is computed as `decoder.storage` defines it. Where the CPU multiplies bytes, x of int8
and int4 products is rounded to int8, with a scale for each group of a row.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from dragoman.decoder import storage
from dragoman.decoder.storage import BITS, shape
from dragoman.kernels import block_loops, loops
from dragoman.kernels.compiler import Kernel, has_look_up, lanes
from dragoman.kernels.serving import FLOATS, differentiated, threads_for

MOST_ROWS = 32  # of x for weights of bf16 and bf12; beyond, torch is quicker
PART_ROWS = 16  # of those at a time
BLOCKS_ROWS = 256  # of x for quantized weights at a time
ALONE_BYTES = 2**18  # of weights, which one thread has read before a second one would begin


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
    few = form in BITS or x.numel() <= MOST_ROWS * inputs
    fits = x.shape[-1] == inputs and x.dtype in FLOATS and x.numel() > 0
    if fits and few and _serves(x, weight, form):
        return _product(form, x, weight, scale, outputs)
    return storage.product(form, x, weight, scale, unpacked)


def unpacked(form: str, weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """As `storage.unpacked`."""
    if form != "bf12" or not (weight.is_cpu and multiplies(form, weight)):
        return storage.unpacked(form, weight, scale, dtype)
    outputs, inputs = shape(form, weight)
    y, kernel = weight.new_empty(outputs, inputs, dtype=torch.bfloat16), loops.unpacking()
    given = {"y": y.data_ptr(), "outputs": outputs, "inputs": inputs, **operands(weight, scale)}
    kernel.run(threads_for(weight.nbytes, ALONE_BYTES), *(given[n] for n in kernel.arguments))
    return y.to(dtype)


def parts(form: str, half: bool, rows: int) -> list[tuple[Kernel, int, int]]:
    """The kernels that together multiply `rows` rows of x; the first row of each, and how many.

    x and y are bf16 (`half`) or float32. For their arguments see `kernels.loops` and
    `kernels.block_loops`.
    """
    most = BLOCKS_ROWS if form in BITS else PART_ROWS
    step = -(-rows // -(-rows // most))  # equal parts
    return [
        (multiplying(form, half, min(step, rows - first)), first, min(step, rows - first))
        for first in range(0, rows, step)
    ]


def scratch_bytes(form: str, half: bool, rows: int, inputs: int) -> int:
    """The scratch memory that each thread of a product of `parts` needs."""
    if form in BITS:
        return block_loops.scratch_bytes(form, inputs, min(rows, BLOCKS_ROWS))
    return loops.scratch_bytes(half, inputs, min(rows, PART_ROWS))


def multiplies(form: str, weight: Tensor) -> bool:
    """Whether kernels of `parts` take these weights."""
    fit = shape(form, weight)[1] % storage.least(form) == 0
    return fit and (form != "bf12" or has_look_up(lanes()))


def operands(weight: Tensor, scale: Tensor | None) -> dict[str, int]:
    """Where weights are, as arguments of a kernel."""
    given = {"weight": weight.data_ptr(), "stride": _stride(weight)}
    if scale is not None:
        given |= {"scale": scale.data_ptr(), "scale_stride": _stride(scale)}
    return given


def _serves(x: Tensor, weight: Tensor, form: str = "bf16") -> bool:
    """Whether a kernel can take these."""
    return (
        x.device.type == weight.device.type == "cpu"
        and weight.stride(-1) == 1
        and not differentiated(x, weight)
        and multiplies(form, weight)
    )


def _product(form: str, x: Tensor, weight: Tensor, scale: Tensor | None, outputs: int) -> Tensor:
    inputs, threads = x.shape[-1], threads_for(weight.nbytes, ALONE_BYTES)
    x = x.contiguous()
    y = torch.empty(*x.shape[:-1], outputs, dtype=x.dtype)
    rows, size, half = x.numel() // inputs, x.element_size(), x.dtype == torch.bfloat16
    bytes_ = threads * scratch_bytes(form, half, rows, inputs)
    scratch = torch.empty(bytes_, dtype=torch.uint8)
    for kernel, first, count in parts(form, half, rows):
        given = {
            "y": y.data_ptr() + first * outputs * size,
            "x": x.data_ptr() + first * inputs * size,
            **operands(weight, scale),
            "scratch": scratch.data_ptr(),
            "rows": count,
            "outputs": outputs,
            "inputs": inputs,
        }
        kernel.run(threads, *(given[name] for name in kernel.arguments))
    return y


@cache
def multiplying(form: str, half: bool, rows: int) -> Kernel:
    if form in BITS:
        return block_loops.product(form, half, block_loops.tile(rows))
    return loops.product(half, rows, form)


def _stride(matrix: Tensor) -> int:
    """Bytes from one row to the next."""
    return matrix.stride(0) * matrix.element_size()
