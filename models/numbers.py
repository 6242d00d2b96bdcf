"""Stored numbers as float32 and back, without torch: for :mod:`models.derived`."""

import numpy as np

ROUND = np.uint32(0x7FFF)


def widened(bits: np.ndarray, dtype: str) -> np.ndarray:
    """``bits`` of `BF16`, `F16` or `F32` numbers, unsigned, as float32 of the same shape."""
    if dtype == "BF16":
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return bits.view({"F16": np.float16, "F32": np.float32}[dtype]).astype(np.float32)


def narrowed(numbers: np.ndarray, dtype: str) -> np.ndarray:
    """float32 as the bits of ``dtype``, rounded to nearest, ties to even."""
    if dtype == "BF16":
        wide = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
        return ((wide + ROUND + ((wide >> 16) & 1)) >> 16).astype(np.uint16)
    if dtype == "F16":
        return numbers.astype(np.float16).view(np.uint16)
    return np.ascontiguousarray(numbers, np.float32).view(np.uint32)
