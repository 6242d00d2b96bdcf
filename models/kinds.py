"""The kinds of model folders that people have, and what is said of those that cannot be loaded.

Looked at before anything else of a folder, from the names of its files and its `config.json` alone.
Loaded are folders in the Hugging Face layout, LoRA adapters of PEFT (:mod:`models.adapters`) and
MLX folders (:mod:`models.mlx`). Anything else is called by its name, with what to take in its
place.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dragoman.errors import CheckpointError

ADAPTER = "adapter_config.json"
INSTEAD = "take the original weights, such as google/gemma-3n-E2B-it; --dtype int4 makes them small"
# By the end of a file's name; pickled weights can run any program when they are read.
_FILES = {
    ".gguf": "a GGUF file, of llama.cpp",
    ".litertlm": "a LiteRT model, of Google's mobile runtime",
    ".task": "a LiteRT model, of Google's mobile runtime",
    ".tflite": "a LiteRT model, of Google's mobile runtime",
    ".onnx": "an ONNX model",
    ".bin": "a file in torch's own format, which can run any program when it is read",
    ".pt": "a file in torch's own format, which can run any program when it is read",
    ".pth": "a file in torch's own format, which can run any program when it is read",
}


def is_adapter(folder: Path) -> bool:
    """Whether ``folder`` holds a PEFT adapter and not a model."""
    return (folder / ADAPTER).is_file() and not (folder / "config.json").is_file()


def of_file(name: str) -> str | None:
    """What a file is by its name, where it is of a kind that cannot be loaded."""
    return next((kind for suffix, kind in _FILES.items() if name.lower().endswith(suffix)), None)


def check_files(folder: Path) -> None:
    """Raises CheckpointError that says what a folder without safetensors holds, where it shows."""
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return
    for path in sorted(folder.iterdir()):
        if (kind := of_file(path.name)) is not None:
            raise CheckpointError(f"{path} is {kind}; it is not read here: {INSTEAD}")


def check_config(config: Mapping[str, Any], path: Path) -> None:
    """Raises CheckpointError for weights that another library quantized, as `config.json` says."""
    said = config.get("quantization_config")
    method = said.get("quant_method") if isinstance(said, Mapping) else None
    if method not in (None, "dragoman"):  # ours: see decoder.quantize
        raise CheckpointError(f"{path}: weights quantized by {method} are not read here: {INSTEAD}")
