"""Pictures to soft tokens: the MobileNet-V5 tower, as timm builds it.

Used by the look stage; its output goes through the embedder of images. Parameter names equal those
of a published checkpoint below `model.vision_tower.`. Unusual: timm is imported when a tower is
built and not before, so a session without pictures never pays for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dragoman.encoders.config import BOOKKEEPING

MODEL_TYPE = "gemma3n_vision"
FAMILY = "mobilenetv5"
SOFT_TOKENS = 256  # of every picture, whatever its size
SIDE = 16  # the tower's output is this many positions high and wide
RESOLUTIONS = (256, 512, 768)  # pixels a side that the tower was trained with
RESOLUTION = 768

_ELSEWHERE = frozenset({  # keys that describe the embedder, training, or a classifier
    "vocab_size", "vocab_offset", "rms_norm_eps", "initializer_range", "do_pooling",
    "label_names", "num_classes",
})  # fmt: skip
_KNOWN = ("architecture", "model_args", "hidden_size")
# What makes timm read files or the network: a configuration may only describe a shape.
_LOADING = ("pretrained", "checkpoint_path", "cache_dir")


@dataclass(frozen=True)
class VisionConfig:
    """The tower's shape. ``model_args`` go to timm as they are; ``hidden_size`` is its width."""

    architecture: str = "mobilenetv5_300m_enc"
    model_args: Mapping[str, Any] = field(default_factory=dict[str, Any])
    hidden_size: int = 2048

    def __post_init__(self) -> None:
        if not str(self.architecture).startswith(FAMILY):
            _refuse("architecture", f"one of timm's {FAMILY} models", self.architecture)
        if not _is_mapping(self.model_args):
            _refuse("model_args", "an object of timm's arguments", self.model_args)
        if any(name.startswith(_LOADING) for name in self.model_args):
            _refuse("model_args", "free of arguments that load weights", dict(self.model_args))
        if type(self.hidden_size) is not int or self.hidden_size < 1:
            _refuse("hidden_size", "a positive whole number", self.hidden_size)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VisionConfig:
        """Reads the `vision_config` table of a checkpoint's `config.json`.

        Raises:
            ValueError: another `model_type`, or values no tower can have.
        """
        if values.get("model_type", MODEL_TYPE) != MODEL_TYPE:
            _refuse("model_type", repr(MODEL_TYPE), values["model_type"])
        return cls(**{n: values[n] for n in _KNOWN if values.get(n) is not None})


def unknown_keys(values: Mapping[str, Any]) -> list[str]:
    """The keys of a `vision_config` that nobody here has heard of."""
    return sorted(set(values) - set(_KNOWN) - _ELSEWHERE - BOOKKEEPING)


class VisionTower(nn.Module):
    """MobileNet-V5 and the scaling behind it (transformers' `get_image_features`)."""

    def __init__(self, config: VisionConfig) -> None:
        """Raises ModuleNotFoundError without timm, ValueError for what timm cannot build."""
        super().__init__()
        self.config = config
        self.timm_model = _build(config)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: float [B, 3, R, R] in [0, 1], R one of 256, 512, 768; gives [B, 256, Dv].

        Raises:
            ValueError: another shape, or a tower whose output is not 16 x 16 of `hidden_size`.
        """
        B, width = len(pixels), self.config.hidden_size
        if pixels.dim() != 4 or pixels.shape[1:] not in [(3, R, R) for R in RESOLUTIONS]:
            raise ValueError(
                f"expected pixels [B, 3, R, R] with R one of {RESOLUTIONS}, got "
                f"{list(pixels.shape)}: resize pictures with encoders.vision.prepare"
            )
        maps = self.timm_model.forward_features(pixels)
        if maps.shape != (B, width, SIDE, SIDE):
            raise ValueError(
                f"the tower gave {list(maps.shape)}, expected {[B, width, SIDE, SIDE]}: "
                "vision_config.hidden_size and model_args do not belong together"
            )
        return maps.flatten(2).transpose(1, 2) * width**0.5


def prepare(picture: Tensor, resolution: int = RESOLUTION) -> Tensor:
    """picture: uint8 [H, W, 3], RGB; gives float32 [3, R, R] in [0, 1].

    As the official image processor: squeezed into a square whatever its shape, bilinear with
    antialiasing on whole numbers, then divided by 255; mean and deviation are left alone.

    Raises:
        ValueError: another dtype or shape, or an unknown resolution.
    """
    if picture.dtype != torch.uint8 or picture.dim() != 3 or picture.shape[2] != 3:
        raise ValueError(
            f"expected a picture uint8 [H, W, 3], got {picture.dtype} {list(picture.shape)}: "
            "convert it to RGB first"
        )
    if resolution not in RESOLUTIONS:
        raise ValueError(f"resolution is {resolution}: choose one of {RESOLUTIONS}")
    # On an accelerator the rounding would be another.
    planes = picture.cpu().permute(2, 0, 1).contiguous()[None]
    size = (resolution, resolution)
    if planes.shape[2:] != size:
        planes = F.interpolate(planes, size, mode="bilinear", antialias=True)
    return planes[0] * (1 / 255)


def _build(config: VisionConfig) -> Any:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the model's vision tower needs {error.name}: pip install timm torchvision",
            name=error.name,
        ) from None
    try:
        return timm.create_model(
            config.architecture, pretrained=False, num_classes=0, **config.model_args
        )
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"timm {timm.__version__} cannot build {config.architecture!r} with "
            f"{dict(config.model_args)} ({error}): correct vision_config in config.json"
        ) from error


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _refuse(name: str, expected: str, got: object) -> None:
    raise ValueError(
        f"vision_config.{name} must be {expected}; got {got!r}. Correct it in config.json."
    )
