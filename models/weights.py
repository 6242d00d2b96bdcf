"""Weights from files into a module that was built without memory, never held twice.

Used by :mod:`models.checkpoint` for whatever module a group of tensors belongs to: it knows state
dict names and shapes, not what computes with them. A tensor that stays as it is stored *is* the
file: a view of its memory map, read from the disk where and when it is touched, and shared by all
processes of the machine. One that changes its type or goes to an accelerator is copied piece by
piece, so that loading takes no more memory than the result.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dragoman.errors import CheckpointError
from dragoman.models.reading import AGAIN, PIECE_BYTES, Stored, some

TYPES = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "I8": torch.int8,
    "U8": torch.uint8,
}

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class _Undrawn(TorchFunctionMode):
    """Leaves out what draws random weights: without memory there is nothing to draw.

    torch would import its compiler for it, 100 MB in every process.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (nn.init.normal_, Tensor.normal_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Modules made inside have shapes but no memory, until :func:`fill` gives them weights.

    Raises CheckpointError for shapes that no tensor can have.
    """
    try:
        with torch.device("meta"), _Undrawn():
            yield
    except RuntimeError as error:
        said = str(error).partition("\n")[0]
        raise CheckpointError(f"no model has the sizes in config.json: {said}") from error


def check(module: nn.Module, stored: Mapping[str, Stored], where: Path, prefix: str = "") -> None:
    """Raises CheckpointError unless ``stored`` has just the tensors of ``module``, in its shapes.

    ``prefix`` stands before the names in messages. Reads no weights.
    """
    wanted = module.state_dict()
    if missing := wanted.keys() - stored.keys():
        raise CheckpointError(f"{where}: missing tensors {some(prefix + n for n in missing)}")
    if surplus := stored.keys() - wanted.keys():
        raise CheckpointError(f"{where}: surplus tensors {some(prefix + n for n in surplus)}")
    wrong = [
        f"{prefix}{name} is {list(stored[name].shape)}, not {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if stored[name].shape != tuple(tensor.shape)
    ]
    codes = [
        f"{prefix}{name} is {stored[name].dtype}"
        for name, tensor in wanted.items()
        if TYPES[stored[name].dtype].is_floating_point != tensor.is_floating_point()
    ]
    if codes:
        raise CheckpointError(
            f"{where}: types differ from config.json: {some(codes, 3)}: take the original weights, "
            "not ones that another tool converted"
        )
    if wrong:
        raise CheckpointError(
            f"{where}: shapes differ from config.json: {some(wrong, 3)}: "
            "take config.json from the same place as the weights"
        )


def fill(
    module: ModuleT,
    stored: Mapping[str, Stored],
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    mapped: Collection[str] = (),
    made: Mapping[str, Tensor] | None = None,
) -> ModuleT:
    """Gives ``module``, built on the meta device, the weights that :func:`check` has accepted.

    Floating-point weights become ``dtype`` on ``device``, but those named in ``mapped`` stay
    memory-mapped on the host, as they are stored. Those in ``made`` are given, not read; quantized
    ones go to ``device`` as they are. Returns the module in evaluation mode.
    """
    device = torch.device(device)
    weights: dict[str, Tensor] = dict(made or {})
    for file in sorted({tensor.file for tensor in stored.values()}):
        inside = {name: tensor for name, tensor in stored.items() if tensor.file == file}
        try:
            weights |= _read(file, inside, dtype, device, mapped)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file} cannot be read ({error}): {AGAIN}") from None
    for name, _ in module.named_buffers():
        weights[name] = weights[name].to(device)
    module.load_state_dict(weights, assign=True)
    return module.eval().requires_grad_(False)


def _read(
    file: Path,
    stored: Mapping[str, Stored],
    dtype: torch.dtype,
    device: torch.device,
    mapped: Collection[str],
) -> dict[str, Tensor]:
    """The tensors of one file. It is mapped only if one of them stays in the map."""
    stays, weights = {}, {}
    for name, tensor in stored.items():
        kept = TYPES[tensor.dtype] == dtype and device.type == "cpu"
        (stays if kept or name in mapped else weights)[name] = tensor
    if weights:
        with safe_open(file, framework="pt", backend="pread") as reader:
            weights = {n: _copied(reader, t, dtype, device) for n, t in weights.items()}
    if stays:
        with safe_open(file, framework="pt") as reader:
            weights |= {name: reader.get_tensor(t.name) for name, t in stays.items()}
    return weights


def _copied(reader: Any, stored: Stored, dtype: torch.dtype, device: torch.device) -> Tensor:
    out = torch.empty(stored.shape, dtype=dtype, device=device)
    if not stored.shape:
        return out.copy_(reader.get_tensor(stored.name))
    source = reader.get_slice(stored.name)
    end = stored.shape[0]
    rows = max(1, PIECE_BYTES * end // max(1, stored.bytes))
    for i in range(0, end, rows):
        piece = slice(i, min(i + rows, end))
        out[piece].copy_(source[piece])
    return out
