"""Quantized weights out of files that hold ordinary ones.

Used to write a quantized folder (:mod:`models.quantizing`) and to quantize while a model is loaded
(:mod:`models.checkpoint`). A few megabytes are read at a time, not mapped, so that neither takes
more memory than the result.
"""

from collections.abc import Iterator, Mapping

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from decoder.quantize import quantized
from models.reading import AGAIN, PIECE_BYTES, CheckpointError, Progress, Stored


def quantized_tensors(
    stored: Mapping[str, Stored],
    forms: Mapping[str, str],
    progress: Progress = lambda done, total: None,
) -> Iterator[tuple[str, Tensor]]:
    """`NAME.weight` and `NAME.scale` of every module of ``forms`` (see `decoder.quantize.plan`).

    ``stored`` holds their ordinary weights under `NAME.weight`; ``progress`` counts the bytes read
    of those. Raises CheckpointError for files that cannot be read and weights that are not finite.
    """
    done, total = 0, sum(stored[f"{name}.weight"].bytes for name in forms)
    for name, form in forms.items():
        source = stored[f"{name}.weight"]
        try:
            codes, scale = _quantized(source, form)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{source.file} cannot be read ({error}): {AGAIN}") from None
        except ValueError as error:
            raise CheckpointError(f"{source.file}: {source.name}: {error}") from None
        yield f"{name}.weight", codes
        yield f"{name}.scale", scale
        done += source.bytes
        progress(done, total)


def _quantized(stored: Stored, form: str) -> tuple[Tensor, Tensor]:
    """A stored matrix, in pieces."""
    empty = quantized(form, torch.empty(stored.shape, device="meta"))
    codes, scale = (torch.empty_like(tensor, device="cpu") for tensor in empty)
    step = max(1, PIECE_BYTES * len(codes) // stored.bytes)
    with safe_open(stored.file, framework="pt", backend="pread") as reader:
        source = reader.get_slice(stored.name)
        for i in range(0, len(codes), step):
            piece = slice(i, min(i + step, len(codes)))
            codes[piece], scale[piece] = quantized(form, source[piece])
    return codes, scale
