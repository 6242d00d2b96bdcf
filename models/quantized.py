"""Quantized weights out of files that hold ordinary ones, and the audio tower's places for them.

Used to write a quantized folder (:mod:`models.quantizing`) and to quantize while a model is loaded
(:mod:`models.checkpoint`). A few megabytes are read at a time, not mapped, so that neither takes
more memory than the result.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

import kernels
from decoder.quantize import QuantizedLinear, fits, joined, quantized
from encoders.linear import Linear
from models.reading import AGAIN, PIECE_BYTES, CheckpointError, Progress, Stored
from models.shards import Part
from models.weights import TYPES


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
        except OSError as error:
            raise CheckpointError(f"{source.file} cannot be read ({error}): {AGAIN}") from None
        except ValueError as error:
            raise CheckpointError(f"{source.file}: {source.name}: {error}") from None
        yield f"{name}.weight", codes
        yield f"{name}.scale", scale
        done += source.bytes
        progress(done, total)


def quantize_tower(tower: nn.Module, form: str) -> dict[str, str]:
    """Puts places for quantized weights into an audio tower without memory.

    Returns the modules that they replaced, and the ``form`` of each, for `quantized_tensors`.
    """
    found = {
        name: form
        for name, part in tower.named_modules()
        if isinstance(part, Linear) and fits(form, part.weight)
    }
    for path in found:
        parent, _, last = path.rpartition(".")
        weight = tower.get_submodule(path).get_parameter("weight")
        place = QuantizedLinear(form, *quantized(form, weight))
        setattr(tower.get_submodule(parent), last, place)
    return found


def _quantized(stored: Stored, form: str) -> tuple[Tensor, Tensor]:
    """A stored matrix, in pieces of whole blocks."""
    places, _ = quantized(form, torch.empty(stored.shape, device="meta"))
    codes, scales, done = torch.empty_like(places, device="cpu"), [], 0
    for bits in Part(stored).pieces(PIECE_BYTES, kernels.blocks(form)):
        weights = torch.from_numpy(bits).view(TYPES[stored.dtype])
        piece, scale = quantized(form, weights)
        codes[done : done + len(piece)] = piece
        scales.append(scale)
        done += len(piece)
    return codes, joined(form, scales)
