"""A model folder in the Hugging Face layout: checked before it is read, loaded a group at a time.

A folder holds `config.json`, `tokenizer.json` and one or more `*.safetensors`. Every actor loads
only the group it needs (one of the towers, or the language model), so memory follows the work.
Names are compared with what the configuration calls for before any weight is read: a missing or
surplus tensor is an error that lists it. Modules are built without memory (on the meta device) and
take the tensors as they were read, so weights are never held twice.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from decoder import LanguageModel, TextConfig, unused_tensor_names
from encoders import AudioConfig, AudioEncoder, MultimodalEmbedder, VisionConfig, VisionTower
from encoders.vision import RESOLUTION, RESOLUTIONS
from models.tokenizer import Tokenizer

BUNDLED = Path(__file__).resolve().parent
GROUPS = {
    "language_model": "model.language_model.",
    "audio_tower": "model.audio_tower.",
    "embed_audio": "model.embed_audio.",
    "embed_vision": "model.embed_vision.",
    "vision_tower": "model.vision_tower.",
}
TIED = {"lm_head.weight"}  # some exports repeat the embedding table under this name

ReadT = TypeVar("ReadT")
ModuleT = TypeVar("ModuleT", bound=nn.Module)


class CheckpointError(ValueError):
    """The model folder is missing, incomplete, damaged, or of another model."""


def find(model: str) -> Path:
    """The folder of ``model``: the name of a bundled one (`nano`), or a path."""
    bundled = BUNDLED / model
    if "/" not in model and (bundled / "config.json").is_file():
        return bundled
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    names = ", ".join(sorted(p.parent.name for p in BUNDLED.glob("*/config.json")))
    raise CheckpointError(
        f"no model at {model!r}: give a folder with config.json, tokenizer.json and safetensors, "
        f"or a bundled name ({names or 'none is bundled'})"
    )


@dataclass(frozen=True)
class Checkpoint:
    """An opened model folder; nothing is read but its configuration and the tensors' names."""

    folder: Path
    config: dict[str, Any]
    files: dict[str, Path]

    @classmethod
    def open(cls, model: str) -> "Checkpoint":
        """Opens ``model`` (see :func:`find`) and checks names; raises CheckpointError."""
        folder = find(model)
        config = _read_config(folder)
        checkpoint = cls(folder, config, _tensor_files(folder))
        strangers = [
            name
            for name in checkpoint.files
            if name not in TIED and not name.startswith(tuple(GROUPS.values()))
        ]
        if strangers:
            raise CheckpointError(f"{folder}: surplus tensors {_some(strangers)}: not a Gemma 3n")
        return checkpoint

    @cached_property
    def text_config(self) -> TextConfig:
        return self._read("text_config", TextConfig.from_dict)

    @cached_property
    def audio_config(self) -> AudioConfig:
        return self._read("audio_config", AudioConfig.from_dict)

    @cached_property
    def vision_config(self) -> VisionConfig:
        return self._read("vision_config", VisionConfig.from_dict)

    @property
    def has_vision(self) -> bool:
        """Whether the folder holds a vision tower."""
        return any(name.startswith(GROUPS["vision_tower"]) for name in self.files)

    @cached_property
    def resolution(self) -> int:
        """Pixels a side that pictures are brought to; `preprocessor_config.json` may say."""
        path = self.folder / "preprocessor_config.json"
        size = _read_json(path).get("size") if path.is_file() else None
        if size is None:
            return RESOLUTION
        if not isinstance(size, dict) or size.get("height") not in RESOLUTIONS:
            raise CheckpointError(
                f"{path}: size is {size!r}, expected a height and width of {RESOLUTIONS}"
            )
        return size["height"]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(self.folder / "tokenizer.json")

    @property
    def name(self) -> str:
        return self.folder.name

    def language_model(self, dtype: torch.dtype = torch.float32) -> LanguageModel:
        """The decoder, in evaluation mode."""
        unused = {GROUPS["language_model"] + n for n in unused_tensor_names(self.text_config)}
        with torch.device("meta"):
            module = LanguageModel(self.text_config)
        return self._fill(module, "language_model", dtype, unused)

    def audio_encoder(self, dtype: torch.dtype = torch.float32) -> AudioEncoder:
        """The audio tower, in evaluation mode."""
        with torch.device("meta"):
            module = AudioEncoder(self.audio_config)
        return self._fill(module, "audio_tower", dtype)

    def vision_tower(self, dtype: torch.dtype = torch.float32) -> VisionTower | None:
        """The vision tower, in evaluation mode; None when the folder has none."""
        if not self.has_vision:
            return None
        with torch.device("meta"):
            module = self._read("vision_config", lambda _: VisionTower(self.vision_config))
        return self._fill(module, "vision_tower", dtype)

    def embedder(self, modality: str, dtype: torch.dtype = torch.float32) -> MultimodalEmbedder:
        """`audio` or `vision`: what maps soft tokens into the decoder's space."""
        with torch.device("meta"):
            module = self._read(f"{modality}_config", self._embedder)
        return self._fill(module, f"embed_{modality}", dtype)

    def _embedder(self, config: dict[str, Any]) -> MultimodalEmbedder:
        return MultimodalEmbedder(
            vocab_size=config["vocab_size"],
            vocab_offset=config["vocab_offset"],
            multimodal_hidden_size=config["hidden_size"],
            text_hidden_size=self.text_config.hidden_size,
            eps=config.get("rms_norm_eps", 1e-6),
        )

    def _section(self, name: str) -> dict[str, Any]:
        section = self.config.get(name)
        if not isinstance(section, dict):
            raise CheckpointError(f"{self.folder}/config.json has no {name}: not a Gemma 3n folder")
        return section

    def _read(self, name: str, make: Callable[[dict[str, Any]], ReadT]) -> ReadT:
        section = self._section(name)
        try:
            return make(section)
        except CheckpointError:
            raise
        except KeyError as error:
            raise CheckpointError(f"{self.folder}/config.json: {name} has no {error}") from None
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{self.folder}/config.json: {error}") from error

    def _fill(
        self, module: ModuleT, group: str, dtype: torch.dtype, unused: set[str] | None = None
    ) -> ModuleT:
        prefix = GROUPS[group]
        wanted = {prefix + name for name in module.state_dict()}
        present = {name for name in self.files if name.startswith(prefix)} - (unused or set())
        if missing := wanted - present:
            raise CheckpointError(f"{self.folder}: missing tensors {_some(missing)}")
        if surplus := present - wanted:
            raise CheckpointError(f"{self.folder}: surplus tensors {_some(surplus)}")
        weights = {}
        for file in sorted({self.files[name] for name in wanted}):
            with safe_open(file, framework="pt") as tensors:
                for name in wanted & set(tensors.keys()):
                    weights[name.removeprefix(prefix)] = tensors.get_tensor(name).to(dtype)
        try:
            module.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            message = f"{self.folder}: shapes differ from config.json: {error}"
            raise CheckpointError(message) from None
        return module.eval().requires_grad_(False)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder} has no config.json: it is not a model folder")
    config = _read_json(path)
    if config.get("model_type") != "gemma3n":
        raise CheckpointError(
            f"{path} describes a {config.get('model_type')!r} model, expected 'gemma3n'"
        )
    return config


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also where it is not even UTF-8
        raise CheckpointError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds a {type(found).__name__}, expected a JSON object")
    return found


def _tensor_files(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as tensors:
                files |= dict.fromkeys(tensors.keys(), path)
        except SafetensorError as error:
            raise CheckpointError(f"{path} is damaged ({error}): copy it again") from None
    if not files:
        raise CheckpointError(f"{folder} has no *.safetensors: the weights are missing")
    return files


def _some(names: set[str] | list[str], most: int = 5) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more
