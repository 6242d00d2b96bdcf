"""Code for the CPU, made at run time, for what torch is slow at: mostly few rows of x."""

from dragoman.kernels.attention import causal_attention
from dragoman.kernels.caps import softcapped
from dragoman.kernels.gates import gated, opened, sparse_mlp
from dragoman.kernels.norms import rms_norm
from dragoman.kernels.products import (
    BLOCK,
    GROUPS,
    LEAST,
    MOST_ROWS,
    available,
    blocks,
    least,
    linear,
    multiplies,
    quantized_linear,
    shape,
    unpacked,
    unpacked_rows,
)

__all__ = [
    "BLOCK",
    "GROUPS",
    "LEAST",
    "MOST_ROWS",
    "available",
    "blocks",
    "causal_attention",
    "gated",
    "least",
    "linear",
    "multiplies",
    "opened",
    "quantized_linear",
    "rms_norm",
    "shape",
    "softcapped",
    "sparse_mlp",
    "unpacked",
    "unpacked_rows",
]
