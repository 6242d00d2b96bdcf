"""Conformer blocks, causal: frame t depends on frames up to t only.

Source: Gulati et al. 2020, arXiv 2005.08100. Between subsampling and the soft tokens. Each block:
half-step feed-forward, local attention, light depthwise convolution, half-step feed-forward, norm.
Unusual: values are clamped around the residual branches (at 1e10, so only a runaway meets it), and
only the convolution's norms read `rms_norm_eps`; the others are fixed at 1e-6, as in the reference.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.attention import AttentionState, LocalAttention
from encoders.config import AudioConfig
from encoders.norms import RMSNorm
from encoders.streaming import StreamingLayer


def clamp(x: Tensor, limit: float) -> Tensor:
    """Keeps values within +-limit, or within what the dtype can hold if that is less."""
    limit = min(limit, torch.finfo(x.dtype).max)
    return x.clamp(-limit, limit)


class FeedForward(nn.Module):
    """Half-step feed-forward: x + weight * norm(W2 silu(W1 norm(x))), four times as wide inside."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        D = config.hidden_size
        self.limit, self.weight = config.gradient_clipping, config.conf_residual_weight
        self.pre_layer_norm = RMSNorm(D)
        self.ffw_layer_1 = nn.Linear(D, 4 * D, bias=False)
        self.ffw_layer_2 = nn.Linear(4 * D, D, bias=False)
        self.post_layer_norm = RMSNorm(D)

    def forward(self, x: Tensor) -> Tensor:
        """x: float [B, T, D]."""
        y = self.pre_layer_norm(clamp(x, self.limit))
        y = self.ffw_layer_2(functional.silu(self.ffw_layer_1(y)))
        return x + self.weight * self.post_layer_norm(clamp(y, self.limit))


class ConformerAttention(nn.Module):
    """The attention branch: norm, local attention, projection, norm, residual."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        D = config.hidden_size
        self.limit = config.gradient_clipping
        self.pre_attn_norm = RMSNorm(D)
        self.attn = LocalAttention(config)
        self.post = nn.Linear(D, D, bias=False)
        self.post_norm = RMSNorm(D)

    def step(self, x: Tensor, state: AttentionState) -> tuple[Tensor, AttentionState]:
        """x: float [B, T, D], the next frames."""
        y, state = self.attn.step(self.pre_attn_norm(clamp(x, self.limit)), state)
        return x + self.post_norm(clamp(self.post(y), self.limit)), state


class LightConv(nn.Module):
    """The convolution branch: norm, GLU, causal depthwise kernel, norm, SiLU, linear, residual."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        D = config.hidden_size
        self.limit = config.gradient_clipping
        self.history = config.conf_conv_kernel_size - 1
        self.pre_layer_norm = RMSNorm(D, config.rms_norm_eps)
        self.linear_start = nn.Linear(D, 2 * D, bias=False)
        self.depthwise_conv1d = nn.Conv1d(D, D, config.conf_conv_kernel_size, groups=D, bias=False)
        self.conv_norm = RMSNorm(D, config.rms_norm_eps)
        self.linear_end = nn.Linear(D, D, bias=False)

    def init_state(
        self, batch: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """What the convolution heard before the start: zeros [B, K - 1, D]."""
        weight = self.linear_end.weight
        device, dtype = device or weight.device, dtype or weight.dtype
        return torch.zeros(batch, self.history, weight.shape[0], device=device, dtype=dtype)

    def step(self, x: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """x: float [B, T, D], the next frames; tail: [B, K - 1, D], what the kernel saw last."""
        gated = functional.glu(self.linear_start(self.pre_layer_norm(x)), dim=-1)
        gated = torch.cat([tail, gated], dim=1)
        y = self.depthwise_conv1d(gated.transpose(1, 2)).transpose(1, 2)
        y = self.linear_end(functional.silu(self.conv_norm(clamp(y, self.limit))))
        return x + y, gated[:, x.shape[1] :].clone()


@dataclass
class BlockState:
    """attention: keys and values of 12 frames; conv: [B, K - 1, D], what the kernel saw last."""

    attention: AttentionState
    conv: Tensor


class ConformerBlock(StreamingLayer[BlockState]):
    """One block: encoder frames [B, T, D] to as many; nothing is held back."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.limit = config.gradient_clipping
        self.ffw_layer_start = FeedForward(config)
        self.attention = ConformerAttention(config)
        self.lconv1d = LightConv(config)
        self.ffw_layer_end = FeedForward(config)
        self.norm = RMSNorm(config.hidden_size)

    def init_state(
        self, batch: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> BlockState:
        """No frames heard."""
        attention = self.attention.attn.init_state(batch, device, dtype)
        return BlockState(attention, self.lconv1d.init_state(batch, device, dtype))

    def forward(self, x: Tensor) -> Tensor:
        """x: float [B, T, D], encoder frames (40 ms)."""
        return self.step(x, self.init_state(x.shape[0], x.device, x.dtype))[0]

    def step(self, x: Tensor, state: BlockState) -> tuple[Tensor, BlockState]:
        """x: float [B, T, D], the next frames."""
        if x.shape[1] == 0:
            return x, state
        x = self.ffw_layer_start(x)
        x, attention = self.attention.step(x, state.attention)
        x, conv = self.lconv1d.step(x, state.conv)
        x = self.ffw_layer_end(x)
        return self.norm(clamp(x, self.limit)), BlockState(attention, conv)

    def flush(self, state: BlockState) -> Tensor:
        """Nothing is held back; [B, 0, D]."""
        return state.conv[:, :0]
