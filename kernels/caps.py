"""Softcapped logits on the CPU in one pass: torch makes several over the vocabulary, on one core
where rows are few."""

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dragoman.kernels.products import FLOATS, available, differentiated

if TYPE_CHECKING:
    from dragoman.kernels.compiler import Program

ALONE = 2**15  # entries that one thread has capped before a second one would begin


def softcapped(x: Tensor, cap: float) -> Tensor:
    """cap * tanh(x / cap), float32, of the shape of x."""
    serves = x.is_cpu and x.dtype in FLOATS and x.is_contiguous() and x.numel() and available()
    if not serves or differentiated(x):
        y = x.float() / cap
        return cap * torch.tanh(y) if y.requires_grad else y.tanh_().mul_(cap)
    y = torch.empty(x.shape, dtype=torch.float32)
    threads = 1 if x.numel() < ALONE else torch.get_num_threads()
    _program(x.dtype == torch.bfloat16, cap).run(threads, y.data_ptr(), x.data_ptr(), x.numel())
    return y


@cache
def _program(half: bool, cap: float) -> "Program":
    from dragoman.kernels.rows import capping

    return capping(half, cap)
