"""The same random weights in the reference give the same numbers."""

from __future__ import annotations

import pytest
import torch
from transformers import Gemma3nAudioConfig, Gemma3nAudioFeatureExtractor, Gemma3nTextConfig
from transformers.models.gemma3n.modeling_gemma3n import (
    Gemma3nAudioEncoder,
    Gemma3nMultimodalEmbedder,
)

from dragoman.encoders import (
    AudioConfig,
    AudioEncoder,
    LogMel,
    MultimodalEmbedder,
    StreamingAudioEncoder,
)
from tests.encoders.helpers import noise, randomize, sound
from tests.streaming import relative_error, split, stream

SIZES = {
    "tiny": {"hidden_size": 32, "conf_num_attention_heads": 2, "conf_num_hidden_layers": 2},
    "deep": {"hidden_size": 32, "conf_num_attention_heads": 4, "conf_num_hidden_layers": 12},
    "odd": {
        "hidden_size": 24,
        "conf_num_attention_heads": 4,
        "conf_num_hidden_layers": 3,
        "conf_attention_chunk_size": 7,
        "conf_attention_context_left": 6,
        "conf_attention_logit_cap": 3.0,
        "conf_conv_kernel_size": 4,
        "conf_reduction_factor": 3,
        "conf_residual_weight": 0.7,
        "gradient_clipping": 1.5,
        "rms_norm_eps": 1e-2,
        "sscp_conv_group_norm_eps": 1e-1,
        "sscp_conv_kernel_size": ((5, 3), (3, 5)),
        "sscp_conv_stride_size": ((2, 2), (3, 2)),
    },
}


def pair(size: str) -> tuple[Gemma3nAudioEncoder, AudioEncoder]:
    config = Gemma3nAudioConfig(**{"sscp_conv_channel_size": (8, 4), **SIZES[size]})
    reference = Gemma3nAudioEncoder(config).eval()
    randomize(reference)
    encoder = AudioEncoder(AudioConfig.from_dict(config.to_dict())).eval()
    encoder.load_state_dict(reference.state_dict())
    assert set(encoder.state_dict()) == set(reference.state_dict())
    return reference, encoder


def ask(reference: Gemma3nAudioEncoder, mel: torch.Tensor) -> torch.Tensor:
    padding = torch.zeros(mel.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        return reference(mel, padding).last_hidden_state


@pytest.mark.parametrize("size", list(SIZES))
@pytest.mark.parametrize("frames", [1, 7, 50, 333])
def test_encoder(size: str, frames: int) -> None:
    reference, encoder = pair(size)
    mel = noise(2, frames, 128, scale=2.0) - 4.0
    expected = ask(reference, mel)
    with torch.no_grad():
        assert relative_error(encoder(mel), expected) < 1e-5
        pieces = split(mel, [0, 1, 13, 16, 1, 40])
        assert relative_error(stream(encoder, pieces, 2), expected) < 1e-5


def test_from_samples_to_tokens() -> None:
    reference, encoder = pair("deep")
    x = sound(1, 128 * 500)
    features = Gemma3nAudioFeatureExtractor()(x[0].numpy(), return_tensors="pt")["input_features"]
    expected = ask(reference, features)
    chain = StreamingAudioEncoder(LogMel(), encoder).eval()
    with torch.no_grad():
        assert relative_error(chain(x), expected) < 1e-5
        assert relative_error(stream(chain, x.split(2560, dim=1), 1), expected) < 1e-5


def test_gradients() -> None:
    reference, encoder = pair("tiny")
    reference.train()
    encoder.train()
    mel = noise(1, 60, 128, scale=2.0) - 4.0
    goal = noise(1, 4, 32, seed=1)
    padding = torch.zeros(mel.shape[:2], dtype=torch.bool)
    (reference(mel, padding).last_hidden_state * goal).sum().backward()
    (encoder(mel) * goal).sum().backward()
    ours = dict(encoder.named_parameters())
    for name, parameter in reference.named_parameters():
        gradient = ours[name].grad
        assert parameter.grad is not None and gradient is not None
        assert relative_error(gradient, parameter.grad) < 1e-4, name


def test_embedder() -> None:
    audio = Gemma3nAudioConfig(hidden_size=24, vocab_size=10, vocab_offset=300, rms_norm_eps=1e-3)
    reference = Gemma3nMultimodalEmbedder(audio, Gemma3nTextConfig(hidden_size=40)).eval()
    randomize(reference)
    embedder = MultimodalEmbedder(10, 300, 24, 40, eps=1e-3)
    embedder.load_state_dict(reference.state_dict())
    features, ids = noise(2, 5, 24), torch.tensor([[300, 309, 304]])
    with torch.no_grad():
        expected = reference(inputs_embeds=features)
        assert relative_error(embedder.soft(features), expected) < 1e-6
        assert relative_error(embedder.hard(ids), reference(input_ids=ids)) < 1e-6
    for outside in (299, 310):
        with pytest.raises(ValueError, match=r"\[300, 310\)"):
            embedder.hard(torch.tensor([outside]))
