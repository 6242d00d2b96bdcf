"""MLX folders, as mlx-vlm writes them: other names, other axes, and matrices quantized in groups.

Read for :mod:`models.folders`. Tensors of the same bytes stay in the folder's own files under their
official names. Convolutions, which MLX keeps with channels last, and quantized matrices are made
anew (:mod:`models.derived`): a weight is scale * code + bias, codes of 2, 4 or 8 bits packed into
32-bit words from the lowest bit on, a scale and a bias to each group of a row.
Source: mlx.core.dequantize and mlx_vlm.models.gemma3n, as they were in 2025.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dragoman.errors import CheckpointError
from dragoman.models.derived import Made, kept
from dragoman.models.kinds import INSTEAD
from dragoman.models.numbers import narrowed, widened
from dragoman.models.reading import GROUPS, WORD_BYTES, Stored, header, read_json, some
from dragoman.models.shards import Part

PREFIX = "language_model.model."
BITS = (2, 4, 8)
ROWS = 2048  # dequantized at a time


@dataclass(frozen=True)
class Quantized:
    """A matrix in groups: words [rows, W], and a scale and a bias for each group of a row."""

    words: Stored
    scales: Stored
    biases: Stored
    bits: int

    @property
    def shape(self) -> tuple[int, int]:
        rows, words = self.words.shape
        return rows, words * 32 // self.bits

    def pieces(self) -> Iterator[np.ndarray]:
        """The weights as bits of bf16, some rows at a time."""
        rows, inputs = self.shape
        shifts = np.arange(0, 32, self.bits, dtype=np.uint32)
        for first in range(0, rows, ROWS):
            some = range(first, min(first + ROWS, rows))
            words, scales, biases = (
                _rows(stored, some) for stored in (self.words, self.scales, self.biases)
            )
            codes = (words[:, :, None] >> shifts) & np.uint32(2**self.bits - 1)
            grouped = codes.reshape(len(some), scales.shape[1], -1).astype(np.float32)
            scale = widened(scales, self.scales.dtype)[:, :, None]
            bias = widened(biases, self.biases.dtype)[:, :, None]
            yield narrowed((grouped * scale + bias).reshape(len(some), inputs), "BF16")


def is_mlx(folder: Path) -> bool:
    """Whether a folder's tensors have the names that MLX gives them."""
    files = sorted(folder.glob("*.safetensors"))
    return any(
        stored.name.startswith(PREFIX) for path in files for stored in header(path, WORD_BYTES)
    )


def tensors(folder: Path) -> dict[str, Stored]:
    """All tensors of an MLX folder by their official names, as bf16 where they were quantized.

    Raises CheckpointError for forms that are not read here.
    """
    files = sorted(folder.glob("*.safetensors"))
    found = {stored.name: stored for path in files for stored in header(path, WORD_BYTES)}
    said = read_json(folder / "config.json").get("quantization") or {}
    made: dict[str, Made] = {}
    plain: list[Stored] = []
    for name, stored in found.items():
        module, _, last = name.rpartition(".")
        if f"{module}.scales" in found:
            if last == "weight":
                matrix = _quantized(module, found, said, folder)
                made[_official(name)] = Made("BF16", matrix.shape, matrix.pieces)
        elif (axes := _axes(stored.shape)) is not None:
            made[_official(name)] = _turned(stored, axes)
        else:
            plain.append(stored)
    ours = {_official(stored.name): stored for stored in plain}
    if strangers := [n for n in (*ours, *made) if not n.startswith(tuple(GROUPS.values()))]:
        raise CheckpointError(f"{folder}: surplus tensors {some(strangers)}: not a Gemma 3n")
    return ours | kept(made, [*files, folder / "config.json"], f"the weights of {folder.name}")


def _official(name: str) -> str:
    if name.startswith(PREFIX):
        return GROUPS["language_model"] + name.removeprefix(PREFIX)
    return name if name.startswith("model.") else f"model.{name}"


def _quantized(
    module: str, found: Mapping[str, Stored], said: Mapping[str, Any], folder: Path
) -> Quantized:
    own = said.get(module)
    how = {**said, **own} if isinstance(own, Mapping) else said
    parts = [found.get(f"{module}.{part}") for part in ("weight", "scales", "biases")]
    bits, mode = how.get("bits"), how.get("mode", "affine")
    if mode != "affine" or bits not in BITS or None in parts:
        raise CheckpointError(
            f"{folder}: {module} is quantized by MLX in mode {mode!r} with {bits} bits, expected "
            f"affine with {', '.join(map(str, BITS))}: {INSTEAD}"
        )
    words, scales, biases = (part for part in parts if part is not None)
    matrix = Quantized(words, scales, biases, bits)
    rows, inputs = matrix.shape
    whole = words.dtype == "U32" and scales.shape == biases.shape and scales.shape[0] == rows
    if not whole or inputs != scales.shape[1] * how.get("group_size", 0):
        raise CheckpointError(
            f"{folder}: {module} has words {list(words.shape)} of {words.dtype}, scales "
            f"{list(scales.shape)} and biases {list(biases.shape)}, which do not fit {bits} bits "
            f"in groups of {how.get('group_size')}: download them again"
        )
    return matrix


def _axes(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """How the axes of a convolution with channels last are put into torch's order; None: no need.

    [out, height, width, in] of a square kernel, or [out, width, in].
    """
    if len(shape) == 4 and shape[1] == shape[2]:
        return (0, 3, 1, 2)
    if len(shape) == 3 and shape[2] == 1:
        return (0, 2, 1)
    return None


def _turned(stored: Stored, axes: tuple[int, ...]) -> Made:
    def make() -> Iterator[np.ndarray]:
        bits = _rows(stored, range(stored.shape[0])).reshape(stored.shape)
        yield np.ascontiguousarray(bits.transpose(axes))

    return Made(stored.dtype, tuple(stored.shape[axis] for axis in axes), make)


def _rows(stored: Stored, rows: range) -> np.ndarray:
    return np.concatenate(list(Part(stored, rows=(rows,)).pieces()))
