"""A small configuration with every mechanism on; its weights in transformers; tolerances."""

from typing import Any

import torch
from torch import nn
from transformers import Gemma3nForCausalLM, Gemma3nTextConfig

from dragoman.decoder import LanguageModel, TextConfig, storage
from dragoman.decoder.quantize import QuantizedLinear, QuantizedTokenTable

# Of two ways through our own model in float64. Logits are float32 and at most 30, where neighbours
# are 2e-6 apart: what was not lost arrives in the same number or the next one.
SAME: dict[str, Any] = {"atol": 4e-6, "rtol": 0.0}
# Of our logits in float64 and those of transformers, which computes norms in float32 even then: for
# twelve seeds of the weights they differed by at most 3e-5.
ALIKE = {"atol": 1e-4, "rtol": 0.0, "check_dtype": False}

CONFIG = TextConfig(
    vocab_size=200,
    vocab_size_per_layer_input=180,
    hidden_size=32,
    hidden_size_per_layer_input=8,
    intermediate_size=64,
    num_hidden_layers=10,
    num_kv_shared_layers=5,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    sliding_window=6,
    altup_num_inputs=3,
    altup_active_idx=0,
    laurel_rank=4,
    activation_sparsity_pattern=(0.9, 0.7) + (0.0,) * 8,
    max_position_embeddings=512,
)


def randomize(module: torch.nn.Module, seed: int = 0) -> None:
    """Give every parameter values that leave no mechanism switched off."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise + 1.0 if parameter.dim() == 1 else noise)


def random_model(config: TextConfig) -> LanguageModel:
    """In float32, without gradients."""
    model = LanguageModel(config).eval().requires_grad_(False)
    randomize(model)
    return model


def unpacked_weights(model: LanguageModel, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The weights of an ordinary model: those of a quantized one as the numbers they stand for."""
    weights = model.state_dict()
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLinear | QuantizedTokenTable):
            scale = weights.pop(f"{name}.scale")
            weights[f"{name}.weight"] = storage.unpacked(module.form, module.weight, scale, dtype)
    return weights


def reference(config: TextConfig, weights: dict[str, torch.Tensor]) -> Gemma3nForCausalLM:
    """transformers' model of `config` with our weights, in their type; each must find its place."""
    values = config.to_dict()
    values.pop("model_type")
    model = Gemma3nForCausalLM(Gemma3nTextConfig(**values)).eval()
    model.model.load_state_dict(weights, strict=True)
    nn.Module.to(model, weights["norm.weight"].dtype)  # the model's own `to` is not typed
    return model
