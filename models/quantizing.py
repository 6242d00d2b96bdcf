"""A model with its language model in int8 or int4, as a model folder that loads straight in.

Used by `dragoman models quantize`. The quantized matrices are made one after the other, read a few
megabytes at a time, and go into files of their own; everything else, the towers and the per-layer
table too, is copied as it is stored. `config.json` says in `quantization_config` what was done. The
folder appears under its name only when it is whole.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from decoder import LanguageModel, unused_tensor_names
from decoder.quantize import Scheme, plan, quantize
from models import shards, weights
from models.checkpoint import Checkpoint
from models.quantized import quantized_tensors
from models.reading import GROUPS, CheckpointError, Progress, Stored
from models.shards import Part
from models.slicing import appearing, companions

PREFIX = GROUPS["language_model"]
FILE_BYTES = 2**29  # of quantized weights, which are held until their file is written


def write_quantized(
    checkpoint: Checkpoint,
    scheme: Scheme,
    folder: Path,
    file_bytes: int = FILE_BYTES,
    progress: Progress = lambda done, total: None,
) -> None:
    """Writes a model with quantized weights to the new ``folder``.

    Raises CheckpointError for a model that is quantized already, not whole, or damaged, a folder
    that exists, and a disk that is too full.
    """
    stored = _language_model(checkpoint)
    with torch.device("meta"):
        module = LanguageModel(checkpoint.text_config)
    weights.check(module, stored, checkpoint.folder, PREFIX)
    forms = plan(module, scheme)
    taken = {f"{name}.weight" for name in forms}
    copied = {PREFIX + n: Part(s) for n, s in stored.items() if n not in taken}
    copied |= {n: Part(s) for n, s in checkpoint.tensors.items() if not n.startswith(PREFIX)}
    copied_bytes = sum(part.bytes for part in copied.values())
    quantize(module, scheme)
    made_bytes = sum(buffer.nbytes for buffer in module.buffers())
    total = copied_bytes + sum(stored[name].bytes for name in taken)
    with appearing(folder, copied_bytes + made_bytes) as building:
        shards.write(building, copied, progress=lambda done, _: progress(done, total))
        made = quantized_tensors(
            stored, forms, lambda done, _: progress(copied_bytes + done, total)
        )
        _write(building, made, file_bytes)
        for path in companions(checkpoint.folder):
            shutil.copyfile(path, building / path.name)
        config = {**checkpoint.config, "quantization_config": scheme.to_dict()}
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (building / "config.json").write_text(text, encoding="utf-8")


def _language_model(checkpoint: Checkpoint) -> dict[str, Stored]:
    """What the language model uses of a folder, by its names there."""
    said = checkpoint.config.get("quantization_config")
    if said is not None:
        raise CheckpointError(
            f"{checkpoint.folder} is quantized already ({json.dumps(said)}): give the original"
        )
    unused = set(unused_tensor_names(checkpoint.text_config))
    names = {
        name.removeprefix(PREFIX): stored
        for name, stored in checkpoint.tensors.items()
        if name.startswith(PREFIX)
    }
    return {name: stored for name, stored in names.items() if name not in unused}


def _write(folder: Path, made: Iterator[tuple[str, Tensor]], file_bytes: int) -> None:
    """Writes tensors as they come, into files of about `file_bytes`."""
    held: dict[str, Tensor] = {}
    number = 0
    for name, tensor in made:
        held[PREFIX + name] = tensor
        if sum(tensor.nbytes for tensor in held.values()) >= file_bytes:
            number += 1
            _save(held, folder, number)
            held = {}
    if held:
        _save(held, folder, number + 1)


def _save(tensors: Mapping[str, Tensor], folder: Path, number: int) -> None:
    path = folder / f"quantized-{number:05}.safetensors"
    path.touch()
    mode = path.stat().st_mode
    save_file(dict(tensors), path, {"format": "pt"})
    path.chmod(mode)  # safetensors leaves a file that nobody else may read
