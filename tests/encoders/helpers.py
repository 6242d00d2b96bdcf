"""Small encoders with every parameter random, and sounds to feed them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dragoman.encoders import AudioConfig, AudioEncoder

TINY = AudioConfig(
    hidden_size=16,
    conf_num_attention_heads=2,
    conf_num_hidden_layers=2,
    input_feat_size=16,
    sscp_conv_channel_size=(4, 3),
)


def randomize(module: nn.Module, seed: int = 0) -> None:
    """Draws every parameter, so that none is a zero or a one that hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
            if "norm" in name:
                parameter.add_(1.0)


def tiny_encoder(config: AudioConfig = TINY, seed: int = 0) -> AudioEncoder:
    encoder = AudioEncoder(config)
    randomize(encoder, seed)
    return encoder.eval()


def noise(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def sound(rows: int, samples: int, seed: int = 0) -> Tensor:
    """Noise whose loudness wanders, within [-1, 1]."""
    slow = torch.arange(samples) / 16_000
    loudness = 0.02 + 0.1 * (1 + torch.sin(2 * torch.pi * 1.3 * slow))
    return (noise(rows, samples, seed=seed) * loudness).clamp(-1, 1)
