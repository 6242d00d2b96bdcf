"""What models and sizes there are, as plain data ready for JSON: what `dragoman models` shows.

Counted from configurations and the headers of files; no weights are read. The published sizes of
Gemma 3n are listed whether or not one is at hand.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dragoman.decoder import Slice, TextConfig, unused_tensor_names
from dragoman.encoders import AudioEncoder
from dragoman.models import weights
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.costs import Group, cost, on_disk
from dragoman.models.hub import BUNDLED
from dragoman.models.reading import GROUPS
from dragoman.models.sizes import E4B, PUBLISHED, sizes


def catalogue(models: Iterable[str] = ()) -> dict[str, Any]:
    """The bundled models and `models` with their sizes and files, and the published sizes.

    Raises CheckpointError for a model that is not there or not whole.
    """
    bundled = sorted(path.parent.name for path in BUNDLED.glob("*/config.json"))
    return {
        "models": [
            describe(Checkpoint.listed(model)) for model in dict.fromkeys([*bundled, *models])
        ],
        "published": [
            _size(name, published.size, E4B, True) | {"mmlu_pretrained": published.mmlu}
            for name, published in PUBLISHED.items()
        ],
    }


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """A model, its sizes, and what its files hold, of which the sizes are the language model.

    Its ``folder`` is None where the files were not downloaded.
    """
    config = checkpoint.text_config
    first: dict[Slice, str] = {}  # of several names for one size
    for name, size in sizes(config).items():
        first.setdefault(size, name)
    held = {f"{GROUPS['language_model']}{name}" for name in unused_tensor_names(config)}
    unused_too = not held.isdisjoint(checkpoint.tensors)
    groups = _groups(checkpoint)
    is_here = all(file.is_file() for file in {s.file for s in checkpoint.tensors.values()})
    return {
        "name": checkpoint.name,
        "folder": str(checkpoint.folder) if is_here else None,
        "parameters": sum(group.parameters for group in groups),
        "bytes": sum(group.bytes for group in groups),
        "sizes": [_size(name, size, config, unused_too) for size, name in first.items()],
        "on_disk": [vars(group) for group in groups],
    }


def _groups(checkpoint: Checkpoint) -> list[Group]:
    """What the files hold; parameters that were quantized count as they were before."""
    groups = on_disk(checkpoint.tensors)
    if "quantization_config" not in checkpoint.config:
        return groups
    whole = {"language_model": cost(checkpoint.text_config).resident}
    if checkpoint.audio_form() is not None:
        with weights.shapes_only():
            tower = AudioEncoder(checkpoint.audio_config)
        whole["audio_tower"] = sum(parameter.numel() for parameter in tower.parameters())
    return [replace(g, parameters=whole.get(g.name, g.parameters)) for g in groups]


def _size(name: str, size: Slice, config: TextConfig, unused_too: bool) -> dict[str, Any]:
    """``unused_too``: files hold keys and values for layers that share another's as well."""
    found = cost(size.config(config))
    left_out = 0 if unused_too else found.parameters - found.resident - found.table
    return {
        "name": name,
        "layers": len(size.layers),
        "skipped": sorted(set(range(config.num_hidden_layers)) - set(size.layers)),
        "ffn": size.widths,
        "parameters": found.parameters - left_out,
        "effective_parameters": found.effective - left_out,
        "memory_bytes": found.memory_bytes,
        "per_layer_table_bytes_bf16": 2 * found.table,
        "cache_bytes_per_token_bf16": found.cache_bytes,
        "gflop_per_token": {
            "prefill": found.prefill / 1e9,
            "prefill_all_layers": found.prefill_all / 1e9,
            "decode": found.decode / 1e9,
        },
    }
