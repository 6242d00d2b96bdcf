"""The official layout at true size, without memory: what a folder must hold, and what it may."""

from dataclasses import replace

import pytest
import torch

from dragoman.decoder import LanguageModel, TextConfig, unused_tensor_names
from dragoman.encoders import (
    AudioConfig,
    AudioEncoder,
    MultimodalEmbedder,
    VisionConfig,
    VisionTower,
)
from dragoman.models import weights
from dragoman.models.reading import GROUPS, TIED

E4B = TextConfig()
E2B = replace(
    E4B,
    num_hidden_layers=30,
    num_kv_shared_layers=10,
    intermediate_size=8192,
    layer_types=None,
    activation_sparsity_pattern=None,
)
IN_THE_INDEX = 1556  # the names in the index of the official E2B
Shapes = dict[str, tuple[int, ...]]


def ours(text: TextConfig) -> Shapes:
    audio, vision = AudioConfig(), VisionConfig()
    with weights.shapes_only():
        modules = {
            "language_model": LanguageModel(text),
            "audio_tower": AudioEncoder(audio),
            "vision_tower": VisionTower(vision),
            "embed_audio": MultimodalEmbedder(128, 262_272, audio.hidden_size, text.hidden_size),
            "embed_vision": MultimodalEmbedder(128, 262_144, vision.hidden_size, text.hidden_size),
        }
    return {
        GROUPS[group] + name: tuple(tensor.shape)
        for group, module in modules.items()
        for name, tensor in module.state_dict().items()
    }


def theirs(text: TextConfig) -> Shapes:
    from transformers import Gemma3nConfig, Gemma3nForConditionalGeneration

    config = Gemma3nConfig(text_config=text.to_dict(), audio_config={}, vision_config={})
    with torch.device("meta"):
        model = Gemma3nForConditionalGeneration(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("text", [E2B, E4B], ids=["E2B", "E4B"])
def test_a_folder_must_hold_what_transformers_reads(text):
    found, expected = ours(text), theirs(text)
    assert expected.keys() - found.keys() == TIED
    assert found == {name: shape for name, shape in expected.items() if name not in TIED}


def test_the_official_index_names_these_and_the_unused_ones():
    unused = {GROUPS["language_model"] + name for name in unused_tensor_names(E2B)}
    assert len(unused) == 3 * 10 and not unused & ours(E2B).keys()
    assert len(unused | ours(E2B).keys()) == IN_THE_INDEX
