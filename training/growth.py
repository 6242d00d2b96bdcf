"""A new run that takes what an earlier, perhaps smaller, model has learnt: `--from FOLDER`.

What may have grown are the number of encoder blocks and the decoder's feed-forward widths. New
blocks and new hidden units begin as next to nothing, so the larger model begins where the smaller
one stood.
"""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dragoman.models.checkpoint import GROUPS
from training.nano import Shape

NEW_GAIN = 0.01
_BLOCK = re.compile(r"audio_tower\.conformer\.(\d+)\.(.+)")
_BRANCH_ENDS = ("post_layer_norm.weight", "post_norm.weight", "lconv1d.linear_end.weight")


def weights_of(folder: Path) -> dict[str, Tensor]:
    """Weights by their names in training: of a run's average, or of an exported model (which lacks
    the letters' heads). Raises FileNotFoundError for a folder that is neither.
    """
    state, exported = folder / "state.safetensors", folder / "model.safetensors"
    if state.is_file():
        tensors = load_file(state)
        return {k.removeprefix("average."): v for k, v in tensors.items() if "average." in k}
    if exported.is_file():
        groups = {prefix: name + "." for name, prefix in GROUPS.items()}
        return {_renamed(k, groups): v.float() for k, v in load_file(exported).items()}
    raise FileNotFoundError(
        f"{folder} has neither state.safetensors nor model.safetensors; "
        "give the folder of a run or of a model that training exported"
    )


def shape_of(weights: dict[str, Tensor]) -> Shape:
    """The shape of the model that has these weights."""
    stem = "audio_tower.subsample_conv_projection."
    layer = "language_model.layers.0."
    channels = (len(weights[f"{stem}conv_{i}.conv.weight"]) for i in (0, 1))
    layers = _count(weights, "language_model.layers.", "input_layernorm.weight")
    owners = _count(weights, "language_model.layers.", "self_attn.k_proj.weight")
    return Shape(
        audio_width=len(weights[f"{stem}input_proj_linear.weight"]),
        audio_blocks=_count(weights, "audio_tower.conformer.", "norm.weight"),
        audio_channels=(next(channels), next(channels)),
        width=weights["language_model.embed_tokens.weight"].shape[1],
        layers=layers,
        shared=layers - owners,
        ffn=len(weights[layer + "mlp.gate_proj.weight"]),
        told=len(weights[layer + "per_layer_input_gate.weight"]),
    )


def _count(weights: dict[str, Tensor], stem: str, rest: str) -> int:
    return sum(re.fullmatch(re.escape(stem) + r"\d+\." + re.escape(rest), n) is not None
               for n in weights)  # fmt: skip


@torch.no_grad()
def take(model: nn.Module, weights: dict[str, Tensor]) -> list[str]:
    """Puts ``weights`` into a model as large or larger; gives the names of what stays new.

    Raises ValueError where a weight is larger than its place.
    """
    new = []
    for name, parameter in model.named_parameters():
        if name not in weights:
            new.append(name)
            continue
        given = weights[name]
        if given.dim() != parameter.dim() or any(
            a > b for a, b in zip(given.shape, parameter.shape, strict=True)
        ):
            raise ValueError(
                f"{name} is {list(given.shape)} in the folder to start from, and "
                f"{list(parameter.shape)} here; give this run a shape as large in everything"
            )
        if given.shape != parameter.shape:
            parameter.mul_(NEW_GAIN)
        parameter[tuple(slice(size) for size in given.shape)].copy_(given)
    _quieten(model, new)
    return new


def _quieten(model: nn.Module, new: list[str]) -> None:
    """Lets new encoder blocks pass on what they get."""
    places = dict(model.named_parameters())
    for name in new:
        found = _BLOCK.fullmatch(name)
        if found is None:
            continue
        if name.endswith(_BRANCH_ENDS):
            places[name].mul_(NEW_GAIN)
        elif found[2] == "norm.weight" and int(found[1]):
            # What comes in has left a norm already; this one gives it the magnitude that it had.
            before = places[f"audio_tower.conformer.{int(found[1]) - 1}.norm.weight"]
            places[name].fill_(float(before.square().mean().sqrt()))


def _renamed(name: str, groups: dict[str, str]) -> str:
    for prefix, group in groups.items():
        if name.startswith(prefix):
            return group + name.removeprefix(prefix)
    raise ValueError(f"{name} is no weight of a model that training exported")
