"""Root mean square norms on the CPU in one call: statistics in float32, one rounding at the end.

torch 2.11 makes an `rms_norm` of bf16 out of eight operations, each with its own pass over memory.
"""

from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from dragoman.kernels.products import FLOATS, available, differentiated

if TYPE_CHECKING:
    from dragoman.kernels.compiler import Program

ALONE = 2**15  # entries that one thread has normed before a second one would begin


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis; the shape and dtype of x.

    x: float [..., D]; weight: [D] or None for ones, of any dtype: it is read as float32.
    """
    if not _serves(x, weight):
        return _by_torch(x, weight, eps)
    width = x.shape[-1]
    y = torch.empty(x.shape, dtype=x.dtype)
    stride = width
    if not x.is_contiguous():
        x = x.reshape(-1, width)  # a view, where rows lie at equal distances
        x = x if x.stride(1) == 1 else x.contiguous()
        stride = x.stride(0)
    count = x.numel()
    _program(x.dtype, None if weight is None else weight.dtype, eps).run(
        1 if count < ALONE else torch.get_num_threads(),
        y.data_ptr(), x.data_ptr(), 0 if weight is None else weight.data_ptr(),
        count // width, width, stride,
    )  # fmt: skip
    return y


def _serves(x: Tensor, weight: Tensor | None) -> bool:
    """Whether our code can take these."""
    if not x.is_cpu or x.dtype not in FLOATS or not x.numel() or not available():
        return False
    if weight is None:
        return not differentiated(x)
    fits = weight.is_cpu and weight.dtype in FLOATS and weight.shape == x.shape[-1:]
    return fits and weight.is_contiguous() and not differentiated(x, weight)


def _by_torch(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """What `rms_norm` is, on any device and differentiable."""
    if weight is None or weight.dtype == x.dtype:
        return F.rms_norm(x, x.shape[-1:], weight, eps)
    return F.rms_norm(x.float(), x.shape[-1:], weight.float(), eps).to(x.dtype)


@cache
def _program(kind: torch.dtype, weight: torch.dtype | None, eps: float) -> "Program":
    from dragoman.kernels.rows import norm

    half = torch.bfloat16
    return norm(kind == half, None if weight is None else weight == half, eps)
