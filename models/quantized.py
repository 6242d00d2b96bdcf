"""Quantized weights out of files that hold ordinary ones, and the audio tower's places for them.

Used to write a quantized folder (:mod:`models.quantizing`) and to quantize while a model is loaded
(:mod:`models.checkpoint`). A few megabytes are read at a time, not mapped, so that neither takes
more memory than the result. Unusual: several threads work on pieces of a matrix, each without the
threads of torch: those wait by spinning, so that two processes that load at once took many times as
long. And how wide the rests of bf12 are (see `decoder.bf12`) depends on the weights, so places
for them take their width from the header of a file, or from what was made.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from dragoman.decoder import bf12, storage
from dragoman.decoder.quantize import (
    QuantizedLinear,
    QuantizedTokenTable,
    fits,
    joined,
    quantized,
)
from dragoman.encoders.linear import Linear
from dragoman.errors import CheckpointError
from dragoman.models import resident
from dragoman.models.reading import AGAIN, Progress, Stored
from dragoman.models.shards import Part
from dragoman.models.weights import TYPES

HEADS = {"bf12": "bf12", "int8": "int8", "int4": "int8"}  # the token table's form if nobody says
LOSSLESS = "bf12"
PIECE_BYTES = 2 * 2**20  # that a thread reads and works on at a time


def quantized_tensors(
    stored: Mapping[str, Stored],
    forms: Mapping[str, str],
    progress: Progress = lambda done, total: None,
) -> Iterator[tuple[str, Tensor]]:
    """`NAME.weight` and `NAME.scale` of every module of ``forms`` (see `decoder.quantize.plan`).

    ``stored`` holds their weights under `NAME.weight`: ordinary ones, or with `NAME.scale` those of
    bf12; ``progress`` counts the bytes read of those. Raises CheckpointError for files that cannot
    be read and weights that are not finite.
    """
    done, total = 0, sum(stored[f"{name}.weight"].bytes for name in forms)
    with _workers() as workers:
        for name, form in forms.items():
            source = stored[f"{name}.weight"]
            try:
                codes, scale = _quantized(source, stored.get(f"{name}.scale"), form, workers)
            except OSError as error:
                raise CheckpointError(f"{source.file} cannot be read ({error}): {AGAIN}") from None
            except ValueError as error:
                raise CheckpointError(f"{source.file}: {source.name}: {error}") from None
            yield f"{name}.weight", codes
            yield f"{name}.scale", scale
            done += source.bytes
            progress(done, total)


def tower_plan(tower: nn.Module, form: str | None) -> dict[str, str]:
    """The matrices of an audio tower that can have a ``form``, with that form; None: no matrix."""
    if form is None:
        return {}
    return {
        name: form
        for name, part in tower.named_modules()
        if isinstance(part, Linear) and fits(form, part.weight)
    }


def quantize_tower(tower: nn.Module, forms: Mapping[str, str]) -> None:
    """Puts places for weights of other forms into an audio tower without memory."""
    for path, form in forms.items():
        parent, _, last = path.rpartition(".")
        part = tower.get_submodule(path)
        weight = torch.empty(_shape(part), device="meta")
        setattr(tower.get_submodule(parent), last, QuantizedLinear(form, *quantized(form, weight)))


def widen_rests(module: nn.Module, shapes: Mapping[str, Sequence[int]]) -> None:
    """Gives the places for rests of bf12 the ``shapes`` of those that are there, by their names.

    A shape that no rest of the matrix can have changes nothing.
    """
    for name, part in _bf12(module):
        rows, inputs = _shape(part)
        shape = tuple(shapes.get(f"{name}.scale", ()))
        most = bf12.CODES + bf12.ENTRY_BYTES * (inputs + 1) + bf12.REST_BYTES
        widths = range(bf12.REST_BYTES, most, bf12.REST_BYTES)
        if len(shape) == 2 and shape[0] == rows and shape[1] in widths:
            part.scale = part.scale.new_empty(shape)


def check_rests(module: nn.Module, stored: Mapping[str, Stored]) -> None:
    """Raises CheckpointError for a rest of bf12 with a row that does not end, by its file.

    Products would read on behind it.
    """
    for name, part in _bf12(module):
        source = stored.get(f"{name}.scale")
        if source is not None and not part.scale.is_meta:
            _check_ends(part.scale, source)


def _bf12(module: nn.Module) -> Iterator[tuple[str, QuantizedLinear | QuantizedTokenTable]]:
    for name, part in module.named_modules():
        if isinstance(part, QuantizedLinear | QuantizedTokenTable) and part.form == "bf12":
            yield name, part


def _shape(part: nn.Module) -> tuple[int, int]:
    """Outputs and inputs of a matrix of any form."""
    form = part.form if isinstance(part, QuantizedLinear | QuantizedTokenTable) else "bf16"
    weight = part.weight
    assert isinstance(weight, Tensor)
    return storage.shape(form, weight)


def _check_ends(rest: Tensor, stored: Stored) -> None:
    last = rest[:, -bf12.ENTRY_BYTES :][:, :2]
    if not (last == 255).all():
        raise CheckpointError(f"{stored.file} is damaged: {stored.name} has no end: {AGAIN}")


@contextmanager
def _workers() -> Iterator[Executor]:
    """As many threads as torch has here; in each of them torch has one."""
    count = torch.get_num_threads()
    with ThreadPoolExecutor(count, "quantize", lambda: torch.set_num_threads(1)) as workers:
        try:
            yield workers
        finally:
            torch.set_num_threads(count)  # what threads to come take over
    resident.trim()


def _quantized(
    stored: Stored, rest: Stored | None, form: str, workers: Executor
) -> tuple[Tensor, Tensor]:
    """A stored matrix, in pieces of whole blocks."""
    shape = _stored_shape(stored, rest)
    places, _ = quantized(form, torch.empty(shape, device="meta"))
    codes = torch.empty_like(places, device="cpu")
    block = storage.blocks(form)
    step = block * max(1, PIECE_BYTES * shape[0] // (stored.bytes * block))

    def work(first: int) -> Tensor:
        rows = range(first, min(first + step, shape[0]))
        piece, scale = quantized(form, _weights(stored, rest, rows))
        codes[first // block : first // block + len(piece)] = piece
        return scale

    return codes, joined(form, list(workers.map(work, range(0, shape[0], step))))


def _stored_shape(stored: Stored, rest: Stored | None) -> tuple[int, int]:
    weight = torch.empty(stored.shape, device="meta")
    return storage.shape("bf16" if rest is None else "bf12", weight)


def _weights(stored: Stored, rest: Stored | None, rows: range) -> Tensor:
    """Some rows of a stored matrix; those of bf12 as bf16."""
    weights = _bits(stored, rows).view(TYPES[stored.dtype])
    if rest is None:
        return weights
    own = _bits(rest, rows)
    _check_ends(own, rest)
    return storage.unpacked("bf12", weights, own, torch.bfloat16)


def _bits(stored: Stored, rows: range) -> Tensor:
    return torch.from_numpy(np.concatenate(list(Part(stored, rows=(rows,)).pieces())))
