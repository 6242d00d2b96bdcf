"""The tiny checkpoint with eyes: a narrow MobileNet-V5 with random weights, and its embedder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dragoman.encoders import MultimodalEmbedder, VisionConfig, VisionTower
from dragoman.models.checkpoint import GROUPS
from dragoman.models.tokenizer import Tokenizer
from tests import nano_like
from training.tokenizer import IMAGE_ROWS, SOFT_ROWS

NARROW = VisionConfig(model_args={"channel_multiplier": 0.05})
RESOLUTION = 256


def make(folder: Path, blind: Path, seed: int = 11) -> Path:
    """Copies the folder ``blind`` and adds what is needed to see; the same seed, the same eyes."""
    shutil.copytree(blind, folder)
    config = nano_like.read_config(folder)
    offset = Tokenizer.from_file(folder / "tokenizer.json").special(IMAGE_ROWS[0])
    width = config["text_config"]["hidden_size"]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tower = VisionTower(NARROW)
        embedder = MultimodalEmbedder(SOFT_ROWS, offset, NARROW.hidden_size, width)
        randomize(tower)
        nano_like.randomize(embedder)
    config["vision_config"] = {
        "model_type": "gemma3n_vision",
        "architecture": NARROW.architecture,
        "model_args": dict(NARROW.model_args),
        "hidden_size": NARROW.hidden_size,
        "vocab_size": SOFT_ROWS,
        "vocab_offset": offset,
        "rms_norm_eps": 1e-6,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    size = {"size": {"height": RESOLUTION, "width": RESOLUTION}}
    (folder / "preprocessor_config.json").write_text(json.dumps(size), encoding="utf-8")
    tensors = load_file(folder / "model.safetensors")
    for group, module in (("vision_tower", tower), ("embed_vision", embedder)):
        tensors |= {
            GROUPS[group] + name: tensor.to(torch.bfloat16).contiguous()
            for name, tensor in module.state_dict().items()
        }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@torch.no_grad()
def randomize(tower: nn.Module) -> None:
    """Weights that let every block have its say: as timm makes them, most do next to nothing."""
    for name, parameter in tower.named_parameters():
        if name.endswith("gamma"):
            parameter.uniform_(0.2, 0.6)
        elif parameter.dim() == 1:
            parameter.uniform_(0.7, 1.3)
