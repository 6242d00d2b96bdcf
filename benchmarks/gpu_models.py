"""A random model of true size, made where it will run: on the card itself, without a file.

Used by :mod:`benchmarks.gpu`, for which every second counts. Unusual: our modules and transformers'
hold the very same tensors, so that both compute with the same weights, which are there once. Only
the table of per-layer embeddings is twice: transformers wants it on the card, ours stays in
memory of the host that the card can copy from by itself (pinned).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor, nn

from benchmarks import vocabulary
from benchmarks.checkpoint import FOLDERS, STD, Size, config, shapes
from benchmarks.ours import Stages
from benchmarks.peer import Peer
from dragoman.decoder import LanguageModel
from dragoman.decoder.layers import LayerTable
from dragoman.encoders import AudioEncoder, LogMel, MultimodalEmbedder, StreamingAudioEncoder
from dragoman.kernels import accelerate
from dragoman.models.checkpoint import GROUPS
from dragoman.models.tokenizer import Tokenizer
from dragoman.models.weights import shapes_only
from dragoman.stages.encode import EncodeStage
from dragoman.stages.translate import TranslateStage

HEARD = ("language_model", "audio_tower", "embed_audio")  # groups that speech needs
Weights = dict[str, Tensor]
ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True)
class Card:
    """What is measured on ``device``; ``small`` is the rehearsal: fewer rounds, shorter sounds."""

    device: str
    small: bool
    size: Size
    weights: Weights

    @property
    def rounds(self) -> int:
        return 1 if self.small else 3

    def part(self, group: str) -> Weights:
        """The weights of a group of `GROUPS`, by their names in its module."""
        prefix = GROUPS[group]
        return {n.removeprefix(prefix): w for n, w in self.weights.items() if n.startswith(prefix)}

    @cached_property
    def _table(self) -> Tensor:
        """Of the per-layer embeddings, on the host."""
        table = self.part("language_model")["embed_tokens_per_layer.weight"]
        if not table.is_cuda:
            return table
        return torch.empty(table.shape, dtype=table.dtype, pin_memory=True).copy_(table)

    def language_model(self) -> LanguageModel:
        """Ours, in bf16, as the command has it: quick, and its per-layer table on the host."""
        part = self.part("language_model")
        with shapes_only():
            model = LanguageModel(self.size.text)
        wanted = set(model.state_dict())
        _given(model, {name: weight for name, weight in part.items() if name in wanted})
        model.embed_tokens_per_layer = LayerTable.from_pretrained(self._table)
        return accelerate(model)

    def stages(self, model: LanguageModel) -> Stages:
        """The stages that a live session runs through, over ``model``."""
        size, mel = self.size, LogMel(self.size.audio.input_feat_size).to(self.device)
        with shapes_only():
            tower = AudioEncoder(size.audio)
            embedder = MultimodalEmbedder(
                size.layout.rows,
                size.audio.vocab_offset,
                size.audio.hidden_size,
                size.text.hidden_size,
            )
        tower = accelerate(_given(tower, self.part("audio_tower")))
        embedder = _given(embedder, self.part("embed_audio"))
        encoder = StreamingAudioEncoder(mel, tower)
        FOLDERS.mkdir(parents=True, exist_ok=True)
        path = FOLDERS / f"{size.name}-tokenizer.json"
        vocabulary.write(path, size.layout)
        translate = TranslateStage(model, embedder, Tokenizer.from_file(path))
        return Stages(encoder, EncodeStage(encoder, embedder), translate, model)

    def peer(self) -> Peer:
        """transformers' model, made on the card as well; raises ImportError without it."""
        from transformers import Gemma3nConfig, Gemma3nForConditionalGeneration

        settings = Gemma3nConfig(**config(self.size))
        with torch.device(self.device):
            model = Gemma3nForConditionalGeneration._from_config(settings, dtype=torch.bfloat16)
        model.load_state_dict(self.weights, strict=False, assign=True)
        model.lm_head.weight = model.model.language_model.embed_tokens.weight
        return Peer(model.eval())


def made(size: Size, device: str, small: bool) -> Card:
    """Random weights of ``size`` on ``device``: norms and scales are ones, as in
    `benchmarks.checkpoint`."""
    generator, prefixes = torch.Generator(device).manual_seed(0), [GROUPS[name] for name in HEARD]
    weights: Weights = {}
    for name, shape in shapes(size).items():
        if not name.startswith(tuple(prefixes)):
            continue
        weights[name] = weight = torch.ones(shape, dtype=torch.bfloat16, device=device)
        if len(shape) > 1:
            weight.normal_(std=STD, generator=generator)
    return Card(device, small, size, weights)


def _given(module: ModuleT, weights: Weights) -> ModuleT:
    module.load_state_dict(weights, assign=True)
    return module.eval().requires_grad_(False)
