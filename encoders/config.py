"""The sizes of the audio encoder, under the names that published checkpoints use.

Read by every module of `encoders` that builds the audio tower. The names and the defaults are those
of `audio_config` in a Gemma 3n `config.json`, so a checkpoint's own file is the only configuration.
Unusual: an unknown key of the encoder's own families is an error, as it would change what is
computed; any other is left to whoever reads the folder (:func:`unknown_keys`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeGuard, cast

Pair = tuple[int, int]

MODEL_TYPE = "gemma3n_audio"

# Keys that savers write beside the sizes, and three of early converters
# (`conf_attention_invalid...`, `conf_positional...`, `sscp_conv_eps`): the reference reads none of
# them.
BOOKKEEPING = frozenset({
    "_attn_implementation_autoset", "_name_or_path", "architectures", "chunk_size_feed_forward",
    "conf_attention_invalid_logits_value", "conf_positional_bias_size", "dtype", "id2label",
    "is_encoder_decoder", "label2id", "model_type", "output_attentions", "output_hidden_states",
    "problem_type", "return_dict", "sscp_conv_eps", "torch_dtype", "transformers_version",
})  # fmt: skip

MOST = 2**31 - 1  # of any whole number
FAMILIES = ("conf_", "sscp_")  # of keys that change what is computed


@dataclass(frozen=True)
class AudioConfig:
    """Sizes of the audio tower and of its embedder; the defaults are the official 681 M encoder.

    Lengths in time are encoder frames (40 ms) for `conf_*` and mel frames (10 ms) for the first
    `sscp_*` pair. Of each `sscp` pair the first number is time, the second frequency.
    `conf_attention_context_left` counts the present frame.
    """

    vocab_size: int = 128
    vocab_offset: int = 262_272
    input_feat_size: int = 128
    hidden_size: int = 1536
    rms_norm_eps: float = 1e-6
    gradient_clipping: float = 1e10
    conf_attention_chunk_size: int = 12
    conf_attention_context_left: int = 13
    conf_attention_context_right: int = 0
    conf_attention_logit_cap: float = 50.0
    conf_num_attention_heads: int = 8
    conf_num_hidden_layers: int = 12
    conf_conv_kernel_size: int = 5
    conf_reduction_factor: int = 4
    conf_residual_weight: float = 0.5
    sscp_conv_channel_size: Pair = (128, 32)
    sscp_conv_group_norm_eps: float = 1e-3
    sscp_conv_kernel_size: tuple[Pair, Pair] = ((3, 3), (3, 3))
    sscp_conv_stride_size: tuple[Pair, Pair] = ((2, 2), (2, 2))

    def __post_init__(self) -> None:
        for field in fields(self):
            if not isinstance(field.default, tuple):
                self._check_number(field.name, whole=isinstance(field.default, int))
        ahead = self.conf_attention_context_right
        if ahead != 0:
            _refuse("conf_attention_context_right", "0, as attention has no lookahead", ahead)
        if self.hidden_size % self.conf_num_attention_heads or self.hidden_size % 2:
            heads = self.conf_num_attention_heads
            _refuse("hidden_size", f"even and a multiple of {heads} heads", self.hidden_size)
        self._check_convolutions()

    def _check_number(self, name: str, whole: bool) -> None:
        value = getattr(self, name)
        if not isinstance(value, int if whole else (int, float)) or isinstance(value, bool):
            _refuse(name, "a whole number" if whole else "a number", value)
        if name in _MAY_BE_ZERO and value < 0:
            _refuse(name, "zero or more", value)
        if name not in _MAY_BE_ZERO and not value > 0:
            _refuse(name, "more than zero", value)
        if whole and value > (most := _MOST.get(name, MOST)):
            _refuse(name, f"at most {most}", value)

    def _check_convolutions(self) -> None:
        kernels, strides = self.sscp_conv_kernel_size, self.sscp_conv_stride_size
        if not _is_pair(self.sscp_conv_channel_size):
            _refuse("sscp_conv_channel_size", "two positive numbers", self.sscp_conv_channel_size)
        for name, pairs in (("sscp_conv_kernel_size", kernels), ("sscp_conv_stride_size", strides)):
            if not _is_tuple(pairs) or len(pairs) != 2 or not all(map(_is_pair, pairs)):
                _refuse(name, "two pairs (time, frequency) of positive numbers", pairs)
        if any(stride[0] > kernel[0] for kernel, stride in zip(kernels, strides, strict=True)):
            _refuse("sscp_conv_stride_size", f"no longer in time than {kernels}", strides)
        if min(self.frequencies()) < 1:
            _refuse("input_feat_size", f"enough bands for kernels {kernels}", self.input_feat_size)

    def frequencies(self) -> Pair:
        """Frequency positions after each convolution; each pads one band on both sides."""
        first, second = zip(self.sscp_conv_kernel_size, self.sscp_conv_stride_size, strict=True)
        middle = (self.input_feat_size + 2 - first[0][1]) // first[1][1] + 1
        return middle, (middle + 2 - second[0][1]) // second[1][1] + 1

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.conf_num_attention_heads

    @property
    def history(self) -> int:
        """Encoder frames that attention sees before the present one; 12 in the official model."""
        return self.conf_attention_context_left - 1

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AudioConfig:
        """Reads the `audio_config` table of a checkpoint's `config.json`.

        Raises:
            ValueError: unknown keys of `FAMILIES`, a `model_type` that is not this encoder's, or
            impossible values.
        """
        known = {field.name for field in fields(cls)}
        strange = [name for name in unknown_keys(values) if name.startswith(FAMILIES)]
        if strange:
            raise ValueError(
                f"audio_config has unknown keys {strange}; known are {sorted(known)}. "
                "Correct or drop them."
            )
        if values.get("model_type", MODEL_TYPE) != MODEL_TYPE:
            _refuse("model_type", repr(MODEL_TYPE), values["model_type"])
        return cls(**{name: _freeze(value) for name, value in values.items() if name in known})

    def to_dict(self) -> dict[str, Any]:
        """The table that `from_dict` reads and that JSON can hold (pairs become lists)."""
        return {
            "model_type": MODEL_TYPE,
            **{name: _thaw(value) for name, value in asdict(self).items()},
        }


def unknown_keys(values: Mapping[str, Any]) -> list[str]:
    """The keys of an `audio_config` that nobody here has heard of."""
    return sorted(set(values) - {field.name for field in fields(AudioConfig)} - BOOKKEEPING)


_MAY_BE_ZERO = frozenset({
    "conf_attention_context_right", "conf_num_hidden_layers", "conf_residual_weight",
    "vocab_offset",
})  # fmt: skip

# What no weight's shape would contradict, and memory or time would be spent on.
_MOST = {
    "conf_attention_chunk_size": 65_536,
    "conf_attention_context_left": 65_536,
    "conf_num_hidden_layers": 1_024,
}


def _is_tuple(value: object) -> TypeGuard[tuple[object, ...]]:
    return isinstance(value, tuple)


def _is_pair(value: object) -> bool:
    return (
        _is_tuple(value)
        and len(value) == 2
        and all(type(number) is int and 0 < number <= MOST for number in value)
    )


def _refuse(name: str, expected: str, got: object) -> None:
    raise ValueError(
        f"audio_config.{name} must be {expected}; got {got!r}. Correct it in config.json."
    )


def _freeze(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        return value
    return tuple(map(_freeze, cast("Sequence[Any]", value)))


def _thaw(value: Any) -> Any:
    return [_thaw(item) for item in value] if _is_tuple(value) else value
