"""Code for the CPU, made at run time, for what torch is slow at: few rows of x."""

from kernels.products import (
    GROUPS,
    LEAST,
    available,
    linear,
    quantized_linear,
    unpacked,
    unpacked_by_torch,
)

__all__ = [
    "GROUPS",
    "LEAST",
    "available",
    "linear",
    "quantized_linear",
    "unpacked",
    "unpacked_by_torch",
]
