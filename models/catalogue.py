"""What models and sizes there are, as plain data ready for JSON: what `dragoman models` shows.

Counted from configurations and the headers of files; no weights are read. The published sizes of
Gemma 3n are listed whether or not one is at hand.
"""

from collections.abc import Iterable
from typing import Any

from decoder import Slice, TextConfig
from models.checkpoint import Checkpoint
from models.costs import cost, on_disk
from models.hub import BUNDLED
from models.sizes import E4B, PUBLISHED, sizes


def catalogue(models: Iterable[str] = ()) -> dict[str, Any]:
    """The bundled models and `models` with their sizes and files, and the published sizes.

    Raises CheckpointError for a model that is not there or not whole.
    """
    bundled = sorted(path.parent.name for path in BUNDLED.glob("*/config.json"))
    return {
        "models": [_model(Checkpoint.open(model)) for model in dict.fromkeys([*bundled, *models])],
        "published": [
            _size(name, published.size, E4B) | {"mmlu_pretrained": published.mmlu}
            for name, published in PUBLISHED.items()
        ],
    }


def _model(checkpoint: Checkpoint) -> dict[str, Any]:
    config = checkpoint.text_config
    first: dict[Slice, str] = {}  # of several names for one size
    for name, size in sizes(config).items():
        first.setdefault(size, name)
    return {
        "name": checkpoint.name,
        "folder": str(checkpoint.folder),
        "sizes": [_size(name, size, config) for size, name in first.items()],
        "on_disk": [vars(group) for group in on_disk(checkpoint.tensors)],
    }


def _size(name: str, size: Slice, config: TextConfig) -> dict[str, Any]:
    found = cost(size.config(config))
    return {
        "name": name,
        "layers": len(size.layers),
        "skipped": sorted(set(range(config.num_hidden_layers)) - set(size.layers)),
        "ffn": size.widths,
        "parameters": found.parameters,
        "effective_parameters": found.effective,
        "memory_bytes": found.memory_bytes,
        "per_layer_table_bytes_bf16": 2 * found.table,
        "cache_bytes_per_token_bf16": found.cache_bytes,
        "gflop_per_token": {
            "prefill": found.prefill / 1e9,
            "prefill_all_layers": found.prefill_all / 1e9,
            "decode": found.decode / 1e9,
        },
    }
