"""The configuration reads what checkpoints write and refuses the rest."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from transformers import Gemma3nAudioConfig
from transformers.models.gemma3n.modeling_gemma3n import Gemma3nAudioEncoder

from dragoman.encoders import AudioConfig, AudioEncoder
from dragoman.encoders.config import unknown_keys


def test_defaults_and_names_are_those_of_the_reference() -> None:
    reference = Gemma3nAudioConfig().to_dict()
    assert AudioConfig.from_dict(reference) == AudioConfig()
    for name, value in AudioConfig().to_dict().items():
        assert reference[name] == value, name


def test_survives_json() -> None:
    config = AudioConfig(hidden_size=192, conf_num_hidden_layers=5, sscp_conv_channel_size=(32, 8))
    assert AudioConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        AudioConfig().hidden_size = 3  # type: ignore[misc]


def test_names_unknown_keys() -> None:
    values = {"zebra": 1, "conf_hiden_size": 192, "hidden_size": 192}
    assert unknown_keys(values) == ["conf_hiden_size", "zebra"]
    with pytest.raises(ValueError, match=r"unknown keys \['conf_hiden_size'\]"):
        AudioConfig.from_dict(values)
    assert AudioConfig.from_dict({"zebra": 1, "hidden_size": 192}).hidden_size == 192


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hidden_size": 0}, "hidden_size"),
        ({"hidden_size": "192"}, "hidden_size"),
        ({"hidden_size": 192.0}, "hidden_size"),
        ({"conf_attention_logit_cap": float("nan")}, "conf_attention_logit_cap"),
        ({"sscp_conv_kernel_size": 3}, "sscp_conv_kernel_size"),
        ({"hidden_size": 100, "conf_num_attention_heads": 8}, "hidden_size"),
        ({"hidden_size": 9, "conf_num_attention_heads": 3}, "hidden_size"),
        ({"conf_attention_context_right": 4}, "conf_attention_context_right"),
        ({"conf_attention_context_left": 0}, "conf_attention_context_left"),
        ({"conf_attention_context_left": 2**31}, "conf_attention_context_left"),
        ({"conf_num_hidden_layers": 10**6}, "conf_num_hidden_layers"),
        ({"vocab_size": 2**63}, "vocab_size"),
        ({"sscp_conv_channel_size": [True, 4]}, "sscp_conv_channel_size"),
        ({"sscp_conv_channel_size": [2**70, 4]}, "sscp_conv_channel_size"),
        ({"conf_num_hidden_layers": -1}, "conf_num_hidden_layers"),
        ({"sscp_conv_channel_size": [128]}, "sscp_conv_channel_size"),
        ({"sscp_conv_stride_size": [[4, 2], [2, 2]]}, "sscp_conv_stride_size"),
        ({"sscp_conv_kernel_size": [[3, 9], [3, 9]], "input_feat_size": 4}, "input_feat_size"),
        ({"model_type": "gemma4_audio"}, "model_type"),
    ],
)
def test_refuses_impossible_values(change: dict, named: str) -> None:
    with pytest.raises(ValueError, match=f"audio_config.{named} must be"):
        AudioConfig.from_dict(change)


def test_official_size_on_the_meta_device() -> None:
    with torch.device("meta"):
        encoder = AudioEncoder(AudioConfig())
        reference = Gemma3nAudioEncoder(Gemma3nAudioConfig())
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 681_348_640
    shapes = {name: value.shape for name, value in reference.state_dict().items()}
    assert {name: value.shape for name, value in encoder.state_dict().items()} == shapes
    assert not list(encoder.buffers())
