"""What a Conformer does to frames between its products, on the CPU in one call each.

A live step has four frames, and torch would spend longer on starting dozens of small operations,
and on bf16 becoming float32 and back, than the memory spends on some of the weights. Ask
`serving.serves` first. State is written in place. `norm` serves the decoder, too: torch 2.11 makes
an `rms_norm` of bf16 out of eight operations, each with its own pass over memory.
"""

import math

import torch
from torch import Tensor

from dragoman.kernels import frames
from dragoman.kernels.serving import threads_for

ALONE = 2**13  # entries that one thread has gone through before a second one would begin


def norm(x: Tensor, weight: Tensor, eps: float, limit: float = math.inf) -> Tensor:
    """c / sqrt(mean(c^2) + eps) * weight over the last axis; c is x [..., D] within +-limit."""
    return _norm(x, weight, eps, limit)


def add_norm(
    onto: Tensor, x: Tensor, weight: Tensor, eps: float, limit: float, factor: float
) -> Tensor:
    """onto + factor * norm(x); both [..., D]."""
    return _norm(x, weight, eps, limit, onto, factor)


def silu_(x: Tensor) -> Tensor:
    """x / (1 + e^-x), in place."""
    count = x.numel()
    frames.silu_in_place(_half(x)).run(threads_for(count, ALONE), x.data_ptr(), count)
    return x


def convolve(
    x: Tensor, tail: Tensor, kernel: Tensor, weight: Tensor, eps: float, limit: float
) -> Tensor:
    """Gate, causal depthwise convolution, norm, SiLU: [B, T, 2 D] -> [B, T, D].

    tail: [B, K - 1, D], the gated frames before; becomes the last ones. kernel: float32 [K, D].
    """
    B, T, both = x.shape
    taps, D = kernel.shape
    assert both == 2 * D and tail.shape == (B, taps - 1, D)
    y, heard = x.new_empty(B, T, D), x.new_empty(B, taps - 1 + T, D)
    threads = min(B, torch.get_num_threads())
    sums = torch.empty(threads, D)
    frames.convolution(_half(x), taps, limit, eps).run(
        threads, y.data_ptr(), x.data_ptr(), tail.data_ptr(), kernel.data_ptr(), weight.data_ptr(),
        heard.data_ptr(), sums.data_ptr(), B, T, D,
    )  # fmt: skip
    return y


def attend(
    new: tuple[Tensor, Tensor, Tensor], old: tuple[Tensor, Tensor], seen: Tensor,
    table: Tensor, scale: Tensor, cap: float,
) -> Tensor:  # fmt: skip
    """Attention of each frame to itself and the P before it, [B, T, N, H].

    new: queries, keys and values, as the result. old: keys and values [B, P, N, H] of the frames
    before, of which the last `seen` int64 [B] are real; become the last ones. table: [N, P + 1, H],
    what the distance adds to a key, farthest first. scale: float32 [H], of queries. cap: see
    `encoders.attention`.
    """
    B, T, N, H = new[0].shape
    P = old[0].shape[1]
    assert old[0].shape == old[1].shape == (B, P, N, H) and table.shape == (N, P + 1, H)
    threads = min(B * N, torch.get_num_threads())
    y, scratch = torch.empty_like(new[0]), torch.empty(threads, 2 * H + P + 1)
    places = (tensor.data_ptr() for tensor in (y, *new, *old, seen, table, scale, scratch))
    frames.attention(_half(y), cap).run(threads, *places, B, T, N, H, P)
    return y


def _norm(
    x: Tensor, weight: Tensor, eps: float, limit: float,
    onto: Tensor | None = None, factor: float | None = None,
) -> Tensor:  # fmt: skip
    y, count, width = torch.empty_like(x), x.numel(), x.shape[-1]
    frames.norm(_half(x), limit, eps, factor).run(
        threads_for(count, ALONE), y.data_ptr(), x.data_ptr(),
        0 if onto is None else onto.data_ptr(), weight.data_ptr(), count // width, width,
    )  # fmt: skip
    return y


def _half(x: Tensor) -> bool:
    return x.dtype == torch.bfloat16
