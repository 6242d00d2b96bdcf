"""The shape of a Gemma 3n language model, read from and written to Hugging Face's `text_config`.

Unusual: keys that name a choice this implementation does not offer (another activation, a bias, an
untied head) are checked, not stored. Other keys that are not known are left to whoever reads the
folder (:func:`unknown_keys`): fine-tuners' tools write many that say nothing about the model.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

SLIDING, FULL = "sliding_attention", "full_attention"

# Whatever changes what is computed, with the values that are supported, the first of them that of
# all released models. Those below `#` are keys of other Gemmas and of similar models.
_FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_activation": ("gelu_pytorch_tanh",),
    "attention_bias": (False,),
    "attention_dropout": (0.0, None),
    "tie_word_embeddings": (True,),
    "rope_scaling": (None,),
    "use_bidirectional_attention": (False, None),
    #
    "hidden_act": ("gelu_pytorch_tanh",),
    "mlp_bias": (False, None),
    "attn_logit_softcapping": (None,),
    "attention_k_eq_v": (False, None),
    "partial_rotary_factor": (1.0, None),
    "use_double_wide_mlp": (False, None),
    "enable_moe_block": (False, None),
    "num_experts": (None, 0),
    "num_global_key_value_heads": (None,),
    "global_head_dim": (None,),
}

# Training and library bookkeeping. `query_pre_attn_scalar` is a leftover: the attention scale is 1.
# fmt: off
_IGNORED = {
    "_attn_implementation_autoset", "_name_or_path", "add_cross_attention", "altup_lr_multiplier",
    "architectures", "bad_words_ids", "begin_suppress_tokens", "chunk_size_feed_forward",
    "cross_attention_hidden_size", "decoder_start_token_id", "diversity_penalty", "do_sample",
    "dtype", "early_stopping", "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty",
    "finetuning_task", "forced_bos_token_id", "forced_eos_token_id", "id2label", "is_decoder",
    "is_encoder_decoder", "label2id", "length_penalty", "max_length", "min_length", "model_type",
    "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences",
    "output_attentions", "output_hidden_states", "output_scores", "prefix", "problem_type",
    "pruned_heads", "query_pre_attn_scalar", "remove_invalid_values", "repetition_penalty",
    "return_dict", "return_dict_in_generate", "sep_token_id", "suppress_tokens",
    "task_specific_params", "temperature", "tf_legacy_loss", "tie_encoder_decoder",
    "tokenizer_class", "top_k", "top_p", "torch_dtype", "torchscript", "transformers_version",
    "typical_p", "use_bfloat16", "use_cache",
}
# fmt: on


@dataclass(frozen=True)
class TextConfig:
    """Sizes and switches of the language model; names are those of Hugging Face's Gemma 3n
    `text_config`.

    `intermediate_size`, `activation_sparsity_pattern` and `layer_types` are given per layer, or as
    one value for all (the sparsity as None: 0.95 on the first ten layers of a model with more than
    ten; the types as None: every fifth layer full). They are stored as one entry a layer.
    `final_logit_softcapping` None leaves the logits as they are.
    Raises ValueError for values no model can have.
    """

    vocab_size: int = 262_400
    vocab_size_per_layer_input: int = 262_144
    hidden_size: int = 2048
    hidden_size_per_layer_input: int = 256
    intermediate_size: int | tuple[int, ...] = 16_384
    num_hidden_layers: int = 35
    num_kv_shared_layers: int = 15
    num_attention_heads: int = 8
    num_key_value_heads: int = 2
    head_dim: int = 256
    layer_types: tuple[str, ...] | None = None
    sliding_window: int = 512
    rope_theta: float = 1_000_000.0
    rope_local_base_freq: float = 10_000.0
    max_position_embeddings: int = 32_768
    altup_num_inputs: int = 4
    altup_active_idx: int = 0
    altup_coef_clip: float | None = 120.0
    altup_correct_scale: bool = True
    laurel_rank: int = 64
    activation_sparsity_pattern: float | tuple[float, ...] | None = None
    final_logit_softcapping: float | None = 30.0
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | tuple[int, ...] | None = 1

    def __post_init__(self):
        layers = self.num_hidden_layers
        if isinstance(self.eos_token_id, list):
            object.__setattr__(self, "eos_token_id", tuple(self.eos_token_id))
        _check_types(self)
        _check_sizes(self)
        types, sparsity = self.layer_types, self.activation_sparsity_pattern
        if types is None:
            types = tuple(FULL if i % 5 == 4 else SLIDING for i in range(layers))
        if sparsity is None:
            sparsity = tuple(0.95 if layers > 10 and i < 10 else 0.0 for i in range(layers))
        set_ = object.__setattr__
        set_(self, "layer_types", tuple(types))
        set_(self, "intermediate_size", _per_layer(self.intermediate_size, layers))
        set_(self, "activation_sparsity_pattern", _per_layer(sparsity, layers))
        _check(self)
        kv_sources(self)

    @property
    def layer_kinds(self) -> tuple[str, ...]:
        """The attention of each layer: "sliding_attention" or "full_attention"."""
        assert self.layer_types is not None
        return self.layer_types

    @property
    def ffn_widths(self) -> tuple[int, ...]:
        """The feed-forward width of each layer."""
        assert isinstance(self.intermediate_size, tuple)
        return self.intermediate_size

    @property
    def sparsities(self) -> tuple[float, ...]:
        """The share of gate activations each layer puts to zero; 0.0 leaves the gate alone."""
        assert isinstance(self.activation_sparsity_pattern, tuple)
        return self.activation_sparsity_pattern

    @property
    def last_kv_owner(self) -> int:
        """Index of the last layer with keys and values of its own; every layer above it reads
        another's."""
        return self.num_hidden_layers - self.num_kv_shared_layers - 1

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TextConfig":
        """Read a `text_config`, as transformers 5 writes it or as the first official files have it.

        Raises ValueError for choices that are not implemented here.
        """
        values = dict(values)
        _read_rope_parameters(values)
        known = {field.name for field in fields(cls)}
        for key, supported in _FIXED.items():
            if key in values and values[key] not in supported:
                raise ValueError(
                    f"text_config {key} is {values[key]!r}; only {supported[0]!r} is supported"
                )
        return cls(**{key: _frozen(values[key]) for key in known & set(values)})

    def to_dict(self) -> dict[str, Any]:
        """The `text_config` in the form of transformers 5, ready for JSON; `from_dict` reads it
        back."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values = {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}
        full, local = values.pop("rope_theta"), values.pop("rope_local_base_freq")
        return {
            "model_type": "gemma3n_text",
            **values,
            "rope_parameters": {
                FULL: {"rope_type": "default", "rope_theta": full},
                SLIDING: {"rope_type": "default", "rope_theta": local},
            },
            "hidden_activation": "gelu_pytorch_tanh",
            "tie_word_embeddings": True,
        }


def unknown_keys(values: Mapping[str, Any]) -> list[str]:
    """The keys of a `text_config` that nobody here has heard of."""
    known = {field.name for field in fields(TextConfig)} | set(_FIXED) | _IGNORED
    return sorted(set(values) - known - {"rope_parameters"})


def kv_sources(config: TextConfig) -> tuple[int, ...]:
    """For each layer the layer whose keys and values it reads: itself, or for the last
    `num_kv_shared_layers` layers the last earlier owner of the same attention type.

    Raises ValueError where a shared layer has no such owner.
    """
    owners = config.layer_kinds[: config.last_kv_owner + 1]
    last = {kind: i for i, kind in enumerate(owners)}
    for i, kind in enumerate(config.layer_kinds):
        if kind not in last:
            raise ValueError(
                f"layer {i} ({kind}) shares keys and values, but none of the {len(owners)} layers "
                f"below the shared ones is a {kind} layer; lower num_kv_shared_layers "
                f"({config.num_kv_shared_layers}) or change layer_types"
            )
    return tuple(i if i < len(owners) else last[kind] for i, kind in enumerate(config.layer_kinds))


def unused_tensor_names(config: TextConfig) -> tuple[str, ...]:
    """Tensors that checkpoints may carry and the model does not have: k and v of the KV-shared
    layers.

    Names are relative to the language model (`layers.20.self_attn.k_proj.weight`, ...). The
    official files have them; transformers 5 neither creates nor writes them.
    """
    return tuple(
        f"layers.{i}.self_attn.{part}.weight"
        for i in range(config.last_kv_owner + 1, config.num_hidden_layers)
        for part in ("k_proj", "v_proj", "k_norm")
    )


def _read_rope_parameters(values: dict[str, Any]) -> None:
    """Turn the nested `rope_parameters` of transformers 5 into the two bases."""
    nested: dict[str, Any] = values.pop("rope_parameters", None) or {}
    names = {FULL: "rope_theta", SLIDING: "rope_local_base_freq"}
    unknown = sorted(set(nested) - set(names))
    if unknown:
        raise ValueError(
            f"unknown rope_parameters: {', '.join(unknown)}; known: {', '.join(names)}"
        )
    for kind, told in nested.items():
        parameters: dict[str, Any] = dict(told or {})
        if parameters.pop("rope_type", "default") != "default":
            raise ValueError(f"rope_parameters[{kind!r}] has a rope_type other than 'default'")
        if "rope_theta" in parameters:
            values[names[kind]] = parameters.pop("rope_theta")
        parameters.pop("partial_rotary_factor", None)
        if parameters:
            raise ValueError(f"unknown rope_parameters of {kind}: {', '.join(sorted(parameters))}")


def _frozen(value: Any) -> Any:
    return tuple(cast("list[Any]", value)) if isinstance(value, list) else value


def _per_layer(value: Any, layers: int) -> tuple[Any, ...]:
    return (value,) * layers if isinstance(value, int | float) else tuple(value)


_POSITIVE = (
    "vocab_size",
    "vocab_size_per_layer_input",
    "hidden_size",
    "hidden_size_per_layer_input",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "sliding_window",
    "max_position_embeddings",
    "altup_num_inputs",
    "laurel_rank",
    "rope_theta",
    "rope_local_base_freq",
)

# What no weight's shape would contradict, and memory or time would be spent on.
_MOST = {"num_hidden_layers": 1_024, "max_position_embeddings": 2**24, "sliding_window": 2**24}


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def _check_types(config: TextConfig) -> None:
    for name, hint in get_type_hints(TextConfig).items():
        value = getattr(config, name)
        told = getattr(hint, "__name__", str(hint))
        _require(_is(value, hint), f"{name} is {value!r}, expected {told}")


def _is(value: object, hint: Any) -> bool:
    """Whether a value of JSON, lists made tuples, is what a type hint of `TextConfig` says."""
    if isinstance(hint, UnionType):
        return any(_is(value, one) for one in get_args(hint))
    if get_origin(hint) is tuple:
        entries = cast("tuple[object, ...]", value)
        return isinstance(value, tuple) and all(_is(one, get_args(hint)[0]) for one in entries)
    if isinstance(value, bool):
        return hint is bool
    if hint is float and isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int) and abs(value) >= 2**31:
        return False
    return isinstance(value, int if hint is float else hint)


def _check_sizes(config: TextConfig) -> None:
    for name in _POSITIVE:
        value = getattr(config, name)
        _require(value > 0, f"{name} must be positive, got {value}")
    for name, most in _MOST.items():
        value = getattr(config, name)
        _require(value <= most, f"{name} must be at most {most}, got {value}")


def _check(config: TextConfig) -> None:
    layers, cap = config.num_hidden_layers, config.final_logit_softcapping
    for name in ("layer_types", "intermediate_size", "activation_sparsity_pattern"):
        count = len(getattr(config, name))
        _require(
            count == layers, f"{name} has {count} entries for {layers} layers; give one a layer"
        )
    kinds = set(config.layer_kinds)
    _require(
        kinds <= {SLIDING, FULL}, f"layer_types must be {SLIDING} or {FULL}, got {sorted(kinds)}"
    )
    least = min(config.ffn_widths)
    _require(least >= 1, f"intermediate_size must be positive, got {least}")
    _require(
        all(0.0 <= share < 1.0 for share in config.sparsities),
        f"activation_sparsity_pattern must lie in [0, 1), got {config.sparsities}",
    )
    _require(
        config.num_attention_heads % config.num_key_value_heads == 0,
        f"num_attention_heads ({config.num_attention_heads}) must be a multiple of "
        f"num_key_value_heads ({config.num_key_value_heads})",
    )
    _require(config.head_dim % 2 == 0, f"head_dim must be even, got {config.head_dim}")
    _require(
        0 <= config.altup_active_idx < config.altup_num_inputs,
        f"altup_active_idx must lie in [0, {config.altup_num_inputs}), "
        f"got {config.altup_active_idx}",
    )
    _require(
        0 <= config.num_kv_shared_layers < layers,
        f"num_kv_shared_layers must lie in [0, {layers}), got {config.num_kv_shared_layers}",
    )
    _require(cap is None or cap > 0, f"final_logit_softcapping must be positive or None, got {cap}")
