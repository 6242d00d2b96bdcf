"""Products with int8 and int4 weights on a GPU, read where they lie (`decoder.storage`).

A few rows of x, as decoding has, are multiplied with numbers that are made of codes and scales in
registers, so that memory is read once and holds no number; for more rows the numbers are written
out and torch multiplies. Each number is rounded once, as the definition does it.

Unusual: a word of 32 bits has the codes of neighbouring inputs of one output. So a tile is loaded
as words, and the inputs that stand at the same place in their words make a product of their own.
"""

# Triton gives kernels other types than they are written with.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from dragoman.decoder import storage

MOST_ROWS = 64  # of x, for which numbers are not written out
WORDS = 64  # of an output, in a tile
ROWS = 16  # of x, in a tile: the least that tensor cores take


@triton.jit
def _number(word, scale, PLACE: tl.constexpr, BITS: tl.constexpr):
    """What the codes at one place of their words stand for, in float32."""
    SHIFT: tl.constexpr = PLACE * 8 if BITS == 8 else PLACE % 4 * 8 + PLACE // 4 * 4
    code = (word >> SHIFT) & (2**BITS - 1)
    return (code - 2 ** (BITS - 1)).to(tl.float32) * scale


@triton.jit
def _tile(weight, scale, block, first, words, w_stride, s_stride, GROUP, W: tl.constexpr):
    """Words [W, 16] of a block from ``first`` on, and their scales: zeros behind the last."""
    word, output = first + tl.arange(0, W)[:, None], tl.arange(0, 16)[None]
    there = word < words
    codes = tl.load(weight + block * w_stride + word * 16 + output, there, other=0)
    scales = tl.load(scale + block * s_stride + word // GROUP * 16 + output, there, other=0)
    return codes, scales.to(tl.float32)


@triton.jit
def _product(
    x, weight, scale, y, rows, outputs, w_stride, s_stride, words: tl.constexpr,
    BITS: tl.constexpr, GROUP: tl.constexpr, W: tl.constexpr, M: tl.constexpr,
):  # fmt: skip
    """A tile [M, 16] of y = x @ numbers^T."""
    PER: tl.constexpr = 32 // BITS
    block, row = tl.program_id(0).to(tl.int64), tl.program_id(1) * M + tl.arange(0, M)[:, None]
    total = tl.zeros((M, 16), dtype=tl.float32)
    for first in range(0, words, W):
        codes, scales = _tile(weight, scale, block, first, words, w_stride, s_stride, GROUP, W)
        word = first + tl.arange(0, W)[None]
        there = (row < rows) & (word < words)
        for place in tl.static_range(PER):
            inputs = tl.load(x + row * (words * PER) + word * PER + place, there, other=0)
            numbers = _number(codes, scales, place, BITS).to(inputs.dtype)
            total = tl.dot(inputs, numbers, total, input_precision="ieee")
    at = y + row * outputs + block * 16 + tl.arange(0, 16)[None]
    tl.store(at, total.to(y.dtype.element_ty), row < rows)


@triton.jit
def _unpack(
    weight, scale, out, words, w_stride, s_stride,
    BITS: tl.constexpr, GROUP: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """The numbers of a tile of words."""
    PER: tl.constexpr = 32 // BITS
    block, first = tl.program_id(0).to(tl.int64), tl.program_id(1) * W
    codes, scales = _tile(weight, scale, block, first, words, w_stride, s_stride, GROUP, W)
    word, output = first + tl.arange(0, W)[:, None], block * 16 + tl.arange(0, 16)[None]
    for place in tl.static_range(PER):
        numbers = _number(codes, scales, place, BITS).to(out.dtype.element_ty)
        tl.store(out + (output * words + word) * PER + place, numbers, word < words)


def product(form: str, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """As `decoder.storage.product`, for int8 and int4."""
    outputs, inputs = storage.shape(form, weight)
    if x.shape[-1] != inputs:
        raise ValueError(f"expected x [..., {inputs}] for {form} weights, got {list(x.shape)}")
    flat = x.reshape(-1, inputs)
    rows = len(flat)
    if rows > MOST_ROWS:
        return F.linear(x, unpacked(form, weight, scale, x.dtype))
    y = x.new_empty(rows, outputs)
    flat = flat.contiguous()
    codes, words, constants = _as_words(form, weight)
    grid = len(weight), triton.cdiv(rows, ROWS)
    _product[grid](
        flat, codes, scale, y, rows, outputs, codes.stride(0), scale.stride(0), words,
        W=WORDS, M=ROWS, **constants,
    )  # fmt: skip
    return y.view(*x.shape[:-1], outputs)


def unpacked(form: str, weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """As `decoder.storage.unpacked`, for int8 and int4."""
    out = torch.empty(storage.shape(form, weight), dtype=dtype, device=weight.device)
    codes, words, constants = _as_words(form, weight)
    grid = len(weight), triton.cdiv(words, WORDS)
    _unpack[grid](codes, scale, out, words, codes.stride(0), scale.stride(0), W=WORDS, **constants)
    return out


def _as_words(form: str, weight: Tensor) -> tuple[Tensor, int, dict[str, int]]:
    """The codes as int32 [blocks, 16 words], how many words an output has, and what kernels want
    to know of the form: GROUP is in words."""
    bits = storage.BITS[form]
    codes = weight.view(torch.int32)
    group = storage.GROUP_INPUTS[form] * bits // 32
    return codes, codes.shape[1] // storage.BLOCK, {"BITS": bits, "GROUP": group}
