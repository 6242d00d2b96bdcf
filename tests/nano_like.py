"""A checkpoint folder as training writes it, but tiny and with random weights.

Every mechanism is on. The weights are drawn so that greedy answers are varied, end by themselves
now and then, and stay alike from one update to the next (attention is spread out), so that commit
policies have something to agree on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dragoman.models import prompt as prompts
from dragoman.models.tokenizer import Tokenizer
from training import nano
from training import tokenizer as tokenizers
from training.model import Nano
from training.run import export

TEXT_VOCAB = 448
SENTENCES = [
    "El niño come una manzana roja.",
    "¿Dónde está la estación de tren, señora?",
    "Mañana por la mañana lloverá en el sur.",
    "La mujer lee un libro, y el perro duerme.",
    " The boy eats a red apple.",
    " Where is the train station, madam?",
    " Tomorrow morning it will rain in the south.",
    " The woman reads a book, and the dog sleeps.",
]


def train_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of SENTENCES and of the prompt, at ``path``."""
    texts = [*prompts.prompt_text("es", "en"), "\n" + prompts.label("en"), *SENTENCES]
    tokenizers.train(texts * 5, TEXT_VOCAB, path)
    return Tokenizer.from_file(path)


def config(tokenizer: Tokenizer) -> dict[str, Any]:
    """The bundled model's `config.json` with smaller numbers."""
    whole: dict[str, Any] = nano.config(tokenizer) | {prompts.PAIRS: [["es", "en"]]}
    whole["text_config"] |= {
        "vocab_size": TEXT_VOCAB + 2 * tokenizers.SOFT_ROWS,
        "vocab_size_per_layer_input": TEXT_VOCAB,
        "hidden_size": 32,
        "hidden_size_per_layer_input": 8,
        "intermediate_size": [64] * 6,
        "num_hidden_layers": 6,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 3,
        "num_attention_heads": 2,
        "head_dim": 16,
        "laurel_rank": 4,
        "sliding_window": 16,
        "activation_sparsity_pattern": [0.9, 0.0, 0.0, 0.0, 0.0, 0.0],
    }
    whole["audio_config"] |= {
        "hidden_size": 32,
        "conf_num_attention_heads": 2,
        "conf_num_hidden_layers": 2,
        "sscp_conv_channel_size": [8, 4],
    }
    return whole


def make(folder: Path, seed: int = 7) -> Path:
    """Writes the whole folder; the same seed gives the same weights."""
    tokenizer = train_tokenizer(folder / "tokenizer.json")
    export(weights(tokenizer, seed), config(tokenizer), folder)
    return folder


def module(tokenizer: Tokenizer) -> Nano:
    """The tiny model as it is trained, with the weights that training starts from."""
    prompt = prompts.build(tokenizer, "es", "en")
    return Nano(config(tokenizer), prompt.after, tokenizer.special("<audio_soft_token>"))


def weights(tokenizer: Tokenizer, seed: int) -> dict[str, Tensor]:
    """Random weights under the names of training."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = module(tokenizer)
        randomize(model)
    rows = model.language_model.embed_tokens.weight.data
    # Bytes rarely, line ends and turn ends often: the head is this table.
    rows[tokenizer.special("<0x00>") : tokenizer.special("<0xFF>") + 1] *= 0.5
    rows[tokenizer.encode("\n")] *= 1.5
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@torch.no_grad()
def randomize(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.copy_(1 + 0.2 * torch.randn(parameter.shape))
        else:
            deviation = 0.1 if "embed_tokens" in name else parameter[0].numel() ** -0.5
            parameter.copy_(deviation * torch.randn(parameter.shape))
        if "q_norm" in name or "k_norm" in name:
            parameter.mul_(0.4)


def read_config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))
