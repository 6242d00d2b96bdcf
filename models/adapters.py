"""LoRA adapters in PEFT folders, merged into the weights of their base model.

Read for :mod:`models.folders`. An adapter stays the small folder that it is: what it changes,
weight + scale * B A, is made once (:mod:`models.derived`), and everything else is the base model's
own file. Any linear layer may have one, those of the audio tower too.
Unusual: what PEFT offers beyond that and what would change the result is refused by its name, as
an adapter that is merged wrongly still speaks.
Source: the file format of PEFT's LoRA; E. Hu et al., "LoRA", 2021; D. Kalajdzievski, "A Rank
Stabilization Scaling Factor", 2023.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dragoman.errors import CheckpointError
from dragoman.models.derived import Made, kept
from dragoman.models.kinds import ADAPTER
from dragoman.models.numbers import narrowed, widened
from dragoman.models.reading import Stored, header, read_json, some
from dragoman.models.shards import Part

WEIGHTS = "adapter_model.safetensors"
WRAPPER = "base_model.model."
FLOATS = ("BF16", "F16", "F32")
# Keys of adapter_config.json that change what is computed, with the values that are merged here.
_FIXED: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (False, None),
    "use_qalora": (False, None),
    "fan_in_fan_out": (False, None),
    "bias": ("none", None),
    "lora_bias": (False, None),
    "trainable_token_indices": (None,),
    "target_parameters": (None, []),
    "alora_invocation_tokens": (None,),
    "layer_replication": (None,),
    "arrow_config": (None,),
}
# These change the base model when training begins, and PEFT keeps the change in no file of ours.
_BASE_CHANGED = ("pissa", "olora", "corda", "loftq")
_LORA = re.compile(r"(.+)\.lora_([AB])(?:\.[^.]+)?\.weight")
_SHARED = re.compile(r"model\.language_model\.layers\.\d+\.self_attn\.[kv]_proj\.weight")


@dataclass(frozen=True)
class Change:
    """What is added to a weight [out, in]: ``scale`` times up [out, r] times down [r, in]."""

    base: Stored
    down: Stored
    up: Stored
    scale: float

    def pieces(self) -> Iterator[np.ndarray]:
        """The merged weight in the type of the base, some rows at a time."""
        down, up = (_numbers(stored) for stored in (self.down, self.up))
        first = 0
        for bits in Part(self.base).pieces():
            weight = widened(bits, self.base.dtype)
            weight = weight + self.scale * (up[first : first + len(bits)] @ down)
            yield narrowed(weight, self.base.dtype)
            first += len(bits)


def base_of(folder: Path) -> str:
    """The model that an adapter was trained on, as its configuration names it."""
    path = folder / ADAPTER
    base = read_json(path).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise CheckpointError(
            f"{path} names no base_model_name_or_path: give the base yourself, --model BASE+ADAPTER"
        )
    return base


def merged(folder: Path, base: Mapping[str, Stored]) -> dict[str, Stored]:
    """The tensors of ``base`` by their official names, with what the adapter in ``folder`` changes.

    Raises CheckpointError for an adapter that does not fit, or of a kind that is not merged here.
    """
    config = read_json(folder / ADAPTER)
    _check(config, folder / ADAPTER)
    path = folder / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {path.name}: the adapter's weights are missing")
    pairs, whole = _sorted(path, base)
    made: dict[str, Made] = {}
    for name, (module, down, up) in pairs.items():
        change = Change(base[name], down, up, _scale(config, module))
        _check_shapes(name, change, path)
        made[name] = Made(change.base.dtype, change.base.shape, change.pieces)
    for name, stored in whole.items():
        if stored.shape != base[name].shape:
            raise CheckpointError(
                f"{path}: {name} is {list(stored.shape)}, and {list(base[name].shape)} in the base "
                "model: give the base that it was trained on"
            )
    sources = [path, folder / ADAPTER, *{base[name].file for name in made}]
    return {**base, **whole, **kept(made, sources, f"weights with the adapter {folder.name}")}


def _sorted(
    path: Path, base: Mapping[str, Stored]
) -> tuple[dict[str, tuple[str, Stored, Stored]], dict[str, Stored]]:
    """The pairs of an adapter by the weight that each changes, with its module as PEFT calls it;
    and what replaces a weight.
    """
    halves: dict[str, dict[str, Stored]] = {}
    whole, strange = {}, []
    for stored in header(path):
        name = stored.name.removeprefix(WRAPPER)
        if (lora := _LORA.fullmatch(name)) is not None:
            halves.setdefault(lora[1], {})[lora[2]] = stored
        elif (official := _official(name, base)) is not None:
            whole[official] = stored
        else:
            strange.append(stored.name)
    pairs = {}
    for module, half in halves.items():
        official = _official(f"{module}.weight", base)
        if official is not None and len(half) == 2:
            pairs[official] = (module, half["A"], half["B"])
        elif not _SHARED.fullmatch(_candidates(f"{module}.weight")[-1]):
            strange.append(module)  # a layer that reads another's keys has none to change
    if strange:
        raise CheckpointError(
            f"{path}: nothing in the base model for {some(strange)}: give the base that it was "
            "trained on; only plain LoRA of linear layers is merged"
        )
    return pairs, whole


def _official(name: str, base: Mapping[str, Stored]) -> str | None:
    return next((known for known in _candidates(name) if known in base), None)


def _candidates(name: str) -> tuple[str, ...]:
    """The names that a tensor had in the versions of transformers, the newest last."""
    newest = name.replace("language_model.model.", "language_model.", 1)
    return (name, f"model.{name}", newest if newest.startswith("model.") else f"model.{newest}")


def _check(config: Mapping[str, Any], path: Path) -> None:
    for key, values in _FIXED.items():
        if config.get(key, values[0]) not in values:
            raise CheckpointError(
                f"{path}: {key} is {config[key]!r}, merged is only {values[0]!r}: merge the "
                "adapter with PEFT (merge_and_unload, save_pretrained) and give that folder"
            )
    how = config.get("init_lora_weights")
    if isinstance(how, str) and how.lower().startswith(_BASE_CHANGED):
        raise CheckpointError(
            f"{path}: init_lora_weights is {how!r}, which changed the base model as well: convert "
            "the adapter to plain LoRA with PEFT (path_initial_model_for_weight_conversion)"
        )


def _scale(config: Mapping[str, Any], module: str) -> float:
    rank = _number(config, "r", "rank_pattern", module)
    alpha = _number(config, "lora_alpha", "alpha_pattern", module)
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _number(config: Mapping[str, Any], key: str, patterns: str, module: str) -> float:
    """A positive number, which modules may have of their own: by patterns of how they end."""
    own = (
        value
        for pattern, value in (config.get(patterns) or {}).items()
        if re.match(rf"(.*\.)?({pattern})$", module)
    )
    found = next(own, config.get(key))
    if not isinstance(found, int | float) or found <= 0:
        raise CheckpointError(f"{ADAPTER}: {key} is {found!r}, expected a positive number")
    return found


def _check_shapes(name: str, change: Change, path: Path) -> None:
    base, down, up = change.base, change.down, change.up
    fits = len(base.shape) == len(down.shape) == len(up.shape) == 2
    fits = fits and (up.shape[0], down.shape[1]) == base.shape and up.shape[1] == down.shape[0]
    if not fits or not {base.dtype, down.dtype, up.dtype} <= set(FLOATS):
        raise CheckpointError(
            f"{path}: {name} is {list(base.shape)} of {base.dtype} in the base model, which "
            f"{list(up.shape)} times {list(down.shape)} does not fit: give the base that it was "
            "trained on, with its original weights"
        )


def _numbers(stored: Stored) -> np.ndarray:
    """A whole matrix as float32."""
    return widened(np.concatenate(list(Part(stored).pieces())), stored.dtype)
