"""Gated feed-forward layers of bf16 on the CPU: GELU(gate) * up in one pass, and sparse ones.

A sparse layer lets a gate pass only where it is beyond a cutoff, for Gemma 3n 5 % of them. What is
behind a closed gate is exactly zero, so its rows of the up weights and its columns of the down
weights need not be multiplied: a third of the work is left of such a layer. What is computed is
defined by `decoder.layers.MLP`.
"""

import struct
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from dragoman.kernels import gate_loops, sparse_loops
from dragoman.kernels.serving import serves, threads_for

ALONE = 2**15  # gates that one thread has passed before a second one would begin
SHARE = 4  # open gates are at most one in so many; beyond, torch is quicker
LEAST_WIDTH, LEAST_TOKENS = 1024, 8  # for less, torch is as quick
PART_TOKENS = 512  # at a time, so that what is said about them stays in the cache


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """GELU(gate) * up, of one shape."""
    if not _plain(gate, up) or gate.numel() % 16 or gate.shape != up.shape:
        return F.gelu(gate, approximate="tanh") * up
    y = torch.empty_like(gate)
    threads, places = threads_for(gate.numel(), ALONE), (t.data_ptr() for t in (y, gate, up))
    gate_loops.gating().run(threads, *places, gate.numel())
    return y


def sparse_mlp(
    gate: Tensor, x: Tensor, up: Tensor, down: Tensor, deviations: float
) -> Tensor | None:
    """down @ (GELU(opened gate) * (up @ x)), only where gates are open; None where torch is to do
    it all.

    gate: [..., width]; x: [..., inputs]; up: [width, inputs]; down: [outputs, width], which may be
    the first rows and columns of larger matrices.
    """
    width, inputs, outputs = gate.shape[-1], x.shape[-1], down.shape[0]
    if not _sparse_serves(gate, x, up, down):
        return None
    gates, xs = gate.view(-1, width), x.reshape(-1, inputs)
    y = torch.empty(len(xs), outputs, dtype=x.dtype)
    for i in range(0, len(xs), PART_TOKENS):
        some = slice(i, i + PART_TOKENS)
        part = y[some], gates[some], xs[some]
        if not sparse_part(*part, up, down, deviations, _sparse()):
            return None
    return y.view(*x.shape[:-1], outputs)


def sparse_part(
    y: Tensor, gate: Tensor, x: Tensor, up: Tensor, down: Tensor, deviations: float, code: "Sparse"
) -> bool:
    """Fills y [tokens, outputs]; False where too many gates are open."""
    (tokens, width), inputs, outputs = gate.shape, x.shape[1], down.shape[0]
    threads, share = torch.get_num_threads(), width // SHARE
    units = torch.empty(tokens * share, dtype=torch.int32)
    values = torch.empty(tokens * share)
    marks = torch.empty(tokens, width // code.block + 1, dtype=torch.int32)
    excess = torch.zeros(threads, dtype=torch.int64)
    lists = (units.data_ptr(), values.data_ptr(), marks.data_ptr())
    bits = struct.unpack("<i", struct.pack("<f", deviations))[0]
    code.choose.run(threads, gate.data_ptr(), *lists, excess.data_ptr(), tokens, width, share, bits)
    if int(excess.max()) > 0:
        return False
    code.up.run(
        threads, x.data_ptr(), up.data_ptr(), 2 * up.stride(0), *lists, tokens, inputs, width
    )
    parts = -(-threads // (outputs // code.tile))
    size = code.scratch_bytes(-(-tokens // parts))
    scratch = torch.empty(threads * size, dtype=torch.uint8)
    code.down.run(
        threads, y.data_ptr(), down.data_ptr(), 2 * down.stride(0), *lists, scratch.data_ptr(),
        size, tokens, outputs, width, parts,
    )  # fmt: skip
    return True


class Sparse:
    """The three steps of a sparse layer, as code, and the shapes they are for.

    lanes, pairs: for another CPU than this.
    """

    def __init__(self, lanes: int | None = None, pairs: bool | None = None):
        self.choose = gate_loops.choosing(lanes)
        self.up = sparse_loops.raising(lanes, pairs)
        self.down = sparse_loops.lowering(lanes, pairs)
        self.block, self.tile = gate_loops.BLOCK, sparse_loops.tile(lanes)
        self.least_inputs = sparse_loops.least_inputs(lanes)
        self._scratch_bytes, self._lanes = sparse_loops.scratch_bytes, lanes

    def scratch_bytes(self, tokens: int) -> int:
        """The scratch memory of a thread on the way down."""
        return self._scratch_bytes(tokens, self._lanes)

    def fits(self, width: int, inputs: int, outputs: int) -> bool:
        """Whether all is a multiple of what goes together."""
        return not (width % self.block or inputs % self.least_inputs or outputs % self.tile)


def _sparse_serves(gate: Tensor, x: Tensor, up: Tensor, down: Tensor) -> bool:
    few = gate.numel() < LEAST_TOKENS * gate.shape[-1] or gate.shape[-1] < LEAST_WIDTH
    if few or not _plain(gate, x):
        return False
    weights = all(w.dtype == x.dtype and w.is_cpu and w.stride(1) == 1 for w in (up, down))
    return weights and _sparse().fits(gate.shape[-1], x.shape[-1], down.shape[0])


def _plain(*tensors: Tensor) -> bool:
    """Whether our code can take these."""
    return tensors[0].dtype == torch.bfloat16 and serves(*tensors)


@cache
def _sparse() -> Sparse:
    return Sparse()
