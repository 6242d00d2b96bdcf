"""Attention over consecutive positions on the CPU, in bf16: what nobody may see is not computed.

torch 2.11's attention for the CPU multiplies at an eighth of the rate that the CPU has for bf16,
and computes what a mask then throws away.
"""

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dragoman.kernels.products import available, differentiated

if TYPE_CHECKING:
    from dragoman.kernels.compiler import Program


def causal_attention(queries: Tensor, keys: Tensor, values: Tensor, window: int) -> Tensor | None:
    """Attention with scale 1 of the last L of S positions: queries [B, N, L, H], keys and values
    [B, N_kv, S, H] -> [B, N, L, H]; None where it is torch's to do.

    A query sees the `window` positions that end with its own.
    """
    if not _serves(queries, keys, values):
        return None
    from dragoman.kernels.attention_loops import packed_bytes, scratch_bytes

    (B, N, L, H), (_, together, S, _) = queries.shape, keys.shape
    rows = queries.transpose(1, 2).contiguous()
    y = torch.empty_like(rows)
    heads, threads = B * together, torch.get_num_threads()
    packed = torch.empty(packed_bytes(heads, S, H), dtype=torch.uint8)
    size = scratch_bytes(S, H)
    scratch = torch.empty(threads * size, dtype=torch.uint8)
    _packing(H).run(
        threads, keys.data_ptr(), values.data_ptr(), packed.data_ptr(), heads, S, keys.stride(1),
        keys.stride(2),
    )  # fmt: skip
    _attending(H).run(
        threads, y.data_ptr(), rows.data_ptr(), packed.data_ptr(), scratch.data_ptr(), size, heads,
        together, L, N // together, S, window,
    )  # fmt: skip
    return y.transpose(1, 2)


def _serves(queries: Tensor, keys: Tensor, values: Tensor) -> bool:
    tensors = (queries, keys, values)
    if differentiated(*tensors) or any(t.dtype != torch.bfloat16 or not t.is_cpu for t in tensors):
        return False
    B, together, _, H = keys.shape
    even = B == 1 or keys.stride(0) == together * keys.stride(1)
    alike = keys.stride() == values.stride() and keys.stride(3) == 1
    return H % 32 == 0 and even and alike and available() and _has_pairs()


@cache
def _has_pairs() -> bool:
    from dragoman.kernels.compiler import has_pairs

    return has_pairs()


@cache
def _packing(width: int) -> "Program":
    from dragoman.kernels.attention_loops import packing

    return packing(width)


@cache
def _attending(width: int) -> "Program":
    from dragoman.kernels.attention_loops import attending

    return attending(width)
