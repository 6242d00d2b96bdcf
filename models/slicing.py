"""A slice of a model as a model folder of its own, which any reader of Gemma 3n loads.

Used by `dragoman models slice`. Feed-forwards lose their last hidden units, skipped layers go with
their share of the per-layer table and its projection, those left are counted anew, and everything
else is copied. The folder appears under its name only when it is whole.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from dragoman.decoder import LanguageModel, Slice, TextConfig, unused_tensor_names
from dragoman.decoder.slices import runs
from dragoman.errors import CheckpointError
from dragoman.models import alignment, shards, weights
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.reading import GROUPS, TOKEN_TABLE, Progress, Stored
from dragoman.models.shards import Part, Ranges

PREFIX = GROUPS["language_model"]
COPIED = (".json", ".jinja", ".model", ".txt")  # tokenizer, processors, generation, chat template
NOT_COPIED = ("config.json", "model.safetensors.index.json")
LICENCES = re.compile(r"(LICEN[CS]E|NOTICE).*", re.IGNORECASE)
CHANGED = (
    "num_hidden_layers",
    "num_kv_shared_layers",
    "layer_types",
    "intermediate_size",
    "activation_sparsity_pattern",
)

_LAYER = re.compile(r"layers\.(\d+)\.(.+)")


def write_slice(
    checkpoint: Checkpoint,
    size: Slice,
    folder: Path,
    shard_bytes: int = shards.SHARD_BYTES,
    progress: Progress = lambda done, total: None,
) -> None:
    """Writes the slice `size` of a model to the new `folder`, in the types it is stored in.

    Reads and writes a few megabytes at a time. Raises CheckpointError for a model that is not
    whole, a folder that exists, and a disk that is too full; and ValueError for a size that the
    model does not have.
    """
    parts = parts_of(checkpoint, size)
    config = dict(checkpoint.config)
    sliced = size.config(checkpoint.text_config).to_dict()
    config["text_config"] = config["text_config"] | {key: sliced[key] for key in CHANGED}
    if alignment.HEADS in config:
        places = {layer: place for place, layer in enumerate(size.layers)}
        looking = [[places[i], head] for i, head in checkpoint.alignment_heads if i in places]
        config[alignment.HEADS] = looking
    with appearing(folder, sum(part.bytes for part in parts.values())) as building:
        shards.write(building, parts, shard_bytes, progress)
        for path in companions(checkpoint.folder):
            shutil.copyfile(path, building / path.name)
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (building / "config.json").write_text(text, encoding="utf-8")


def parts_of(checkpoint: Checkpoint, size: Slice) -> dict[str, Part]:
    """What of which stored tensor goes into the slice's folder, by new name; reads no weights."""
    config = checkpoint.text_config
    size.check(config)
    _check_whole(checkpoint, config)
    parts = {}
    for name, stored in checkpoint.tensors.items():
        if name.startswith(PREFIX):
            kept = _part(name.removeprefix(PREFIX), stored, size, config)
            if kept is not None:
                parts[PREFIX + kept[0]] = kept[1]
        else:
            parts[name] = Part(stored)
    return parts


def _part(name: str, stored: Stored, size: Slice, config: TextConfig) -> tuple[str, Part] | None:
    """New name and part of a tensor of the language model; None if it goes."""
    P = config.hidden_size_per_layer_input
    if name == TOKEN_TABLE:
        return name, Part(stored, columns=_shares(size, P))
    if name == "per_layer_model_projection.weight":
        return name, Part(stored, rows=_shares(size, P))
    layer = _LAYER.fullmatch(name)
    if layer is None:
        return name, Part(stored)
    old, rest = int(layer[1]), layer[2]
    if old not in size.layers:
        return None
    new = size.layers.index(old)
    width = (range(size.widths[new]),)
    part = Part(stored)
    if rest in ("mlp.gate_proj.weight", "mlp.up_proj.weight"):
        part = Part(stored, rows=width)
    elif rest == "mlp.down_proj.weight":
        part = Part(stored, columns=width)
    return f"layers.{new}.{rest}", part


def _shares(size: Slice, P: int) -> Ranges:
    """Where the layers of a slice lie on an axis that has P places for each layer."""
    return tuple(range(run.start * P, run.stop * P) for run in runs(size.layers))


def _check_whole(checkpoint: Checkpoint, config: TextConfig) -> None:
    if "quantization_config" in checkpoint.config:
        raise CheckpointError(
            f"{checkpoint.folder} is quantized: slice the original weights, then quantize the slice"
        )
    unused = set(unused_tensor_names(config))
    stored: Mapping[str, Stored] = {
        name.removeprefix(PREFIX): tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in unused
    }
    with torch.device("meta"):
        module = LanguageModel(config)
    weights.check(module, stored, checkpoint.folder, PREFIX)


def companions(folder: Path) -> list[Path]:
    """The files beside the weights that a reader needs, or a licence asks for."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file()
        and path.name not in NOT_COPIED
        and (path.suffix in COPIED or LICENCES.fullmatch(path.name))
    ]


@contextmanager
def appearing(folder: Path, needed: int) -> Iterator[Path]:
    """A folder to fill, which takes the name `folder` at the end, or vanishes on an error."""
    folder = folder.absolute()
    if folder.exists():
        raise CheckpointError(f"{folder} exists already: give the name of a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        raise CheckpointError(
            f"{folder.parent} has {free / 1e9:.1f} GB left, and the model needs "
            f"{needed / 1e9:.1f} GB: give a folder on another disk"
        )
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield building
        building.chmod(0o755)  # mkdtemp's is for its owner alone
        os.rename(building, folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
