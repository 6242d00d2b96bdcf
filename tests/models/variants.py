"""Folders that other tools make of a model: MLX's and PEFT's, written from an ordinary one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

LM = "model.language_model."


def copied(source: Path, folder: Path) -> Path:
    """A folder with all files of ``source`` but its weights."""
    ignore = shutil.ignore_patterns("*.safetensors")
    return Path(shutil.copytree(source, folder, ignore=ignore))


def mlx(source: Path, folder: Path, bits: int | None = None, group: int = 32) -> Path:
    """``source`` as mlx-vlm writes it; with ``bits`` the matrices of the language model, whose
    rows are whole groups, are quantized.
    """
    copied(source, folder)
    tensors = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        theirs = name.removeprefix("model.").replace("language_model.", "language_model.model.")
        if tensor.dim() == 4:
            tensor = tensor.permute(0, 2, 3, 1)
        elif tensor.dim() == 3:
            tensor = tensor.permute(0, 2, 1)
        quantizes = bits and name.startswith(LM) and tensor.dim() == 2
        if bits and quantizes and tensor.shape[1] % group == 0 and "altup" not in name:
            module = theirs.removesuffix(".weight")
            parts = quantized(tensor.float(), bits, group)
            tensors |= {f"{module}.{part}": value for part, value in parts.items()}
        else:
            tensors[theirs] = tensor.contiguous()
    save_file(tensors, folder / "model.safetensors", {"format": "mlx"})
    if bits:
        said = {"group_size": group, "bits": bits}
        edit(folder / "config.json", quantization=said, quantization_config=said)
    return folder


def quantized(weight: Tensor, bits: int, group: int) -> dict[str, Tensor]:
    """Words, scales and biases of an affine quantization in groups along the rows."""
    rows, inputs = weight.shape
    grouped = weight.reshape(rows, inputs // group, group)
    low, high = grouped.amin(-1), grouped.amax(-1)
    scales, biases = ((high - low) / (2**bits - 1)).bfloat16(), low.bfloat16()
    codes = (grouped - biases[..., None].float()) / scales[..., None].float()
    codes = codes.round().clamp(0, 2**bits - 1).long().reshape(rows, -1, 32 // bits)
    words = (codes << (bits * torch.arange(32 // bits))).sum(-1)
    return {"weight": words.to(torch.uint32), "scales": scales, "biases": biases}


def dequantized(parts: Mapping[str, Tensor], bits: int) -> Tensor:
    """What a matrix stands for, a code at a time."""
    words, scales, biases = parts["weight"].long(), parts["scales"], parts["biases"]
    codes = [(words >> (bits * i)) & (2**bits - 1) for i in range(32 // bits)]
    flat = torch.stack(codes, -1).flatten(1).reshape(*scales.shape, -1).float()
    return (flat * scales[..., None].float() + biases[..., None].float()).flatten(1).bfloat16()


def adapter(
    source: Path, folder: Path, modules: tuple[str, ...], rank: int = 3, **config: Any
) -> dict[str, tuple[Tensor, Tensor]]:
    """Writes a PEFT adapter over ``source`` to ``folder``; B and A by the weights they change."""
    base = load_file(source / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    chosen = {
        name: tensor
        for name, tensor in base.items()
        if tensor.dim() == 2 and name.removesuffix(".weight").endswith(modules)
    }

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.1

    halves = {
        name: (drawn(tensor.shape[0], rank), drawn(rank, tensor.shape[1]))
        for name, tensor in chosen.items()
    }
    tensors = {}
    for name, (up, down) in halves.items():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        tensors |= {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    said = {"peft_type": "LORA", "r": rank, "lora_alpha": 6, "target_modules": list(modules)}
    said |= {"base_model_name_or_path": str(source), "bias": "none", "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(said | config), encoding="utf-8")
    return halves


def edit(path: Path, **values: Any) -> None:
    """Sets keys of a JSON object in a file."""
    found = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(found | values), encoding="utf-8")
