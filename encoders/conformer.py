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

from dragoman.encoders.attention import AttentionState, LocalAttention
from dragoman.encoders.config import AudioConfig
from dragoman.encoders.linear import Linear
from dragoman.encoders.norms import RMSNorm
from dragoman.encoders.streaming import StreamingLayer


class FeedForward(nn.Module):
    """Half-step feed-forward: x + weight * norm(W2 silu(W1 norm(x))), four times as wide inside."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        D, limit = config.hidden_size, config.gradient_clipping
        self.weight = config.conf_residual_weight
        self.pre_layer_norm = RMSNorm(D, limit=limit)
        self.ffw_layer_1 = Linear(D, 4 * D)
        self.ffw_layer_2 = Linear(4 * D, D)
        self.post_layer_norm = RMSNorm(D, limit=limit)

    def forward(self, x: Tensor) -> Tensor:
        """x: float [B, T, D]."""
        y = functional.silu(self.ffw_layer_1(self.pre_layer_norm(x)))
        return self.post_layer_norm.added(x, self.ffw_layer_2(y), self.weight)


class ConformerAttention(nn.Module):
    """The attention branch: norm, local attention, projection, norm, residual."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        D, limit = config.hidden_size, config.gradient_clipping
        self.pre_attn_norm = RMSNorm(D, limit=limit)
        self.attn = LocalAttention(config)
        self.post = Linear(D, D)
        self.post_norm = RMSNorm(D, limit=limit)

    def step(self, x: Tensor, state: AttentionState) -> tuple[Tensor, AttentionState]:
        """x: float [B, T, D], the next frames."""
        y, state = self.attn.step(self.pre_attn_norm(x), state)
        return self.post_norm.added(x, self.post(y)), state


class LightConv(nn.Module):
    """The convolution branch: norm, GLU, causal depthwise kernel, norm, SiLU, linear, residual."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        D, taps = config.hidden_size, config.conf_conv_kernel_size
        self.pre_layer_norm = RMSNorm(D, config.rms_norm_eps)
        self.linear_start = Linear(D, 2 * D)
        self.depthwise_conv1d = nn.Conv1d(D, D, taps, groups=D, bias=False)
        self.conv_norm = RMSNorm(D, config.rms_norm_eps, limit=config.gradient_clipping)
        self.linear_end = Linear(D, D)

    def init_state(
        self, batch: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """What the convolution heard before the start: zeros [B, K - 1, D]."""
        weight = self.depthwise_conv1d.weight
        D, _, taps = weight.shape
        device, dtype = device or weight.device, dtype or weight.dtype
        return torch.zeros(batch, taps - 1, D, device=device, dtype=dtype)

    def step(self, x: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """x: float [B, T, D], the next frames; tail: [B, K - 1, D], what the kernel saw last."""
        y, tail = self.convolve(self.linear_start(self.pre_layer_norm(x)), tail)
        return x + self.linear_end(y), tail

    def convolve(self, x: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Gate, depthwise kernel, norm, SiLU: x [B, T, 2 D] to [B, T, D]; and the new tail."""
        gated = torch.cat([tail, functional.glu(x, dim=-1)], dim=1)
        y = self.depthwise_conv1d(gated.transpose(1, 2)).transpose(1, 2)
        return functional.silu(self.conv_norm(y)), gated[:, x.shape[1] :].clone()


@dataclass
class BlockState:
    """attention: keys and values of 12 frames; conv: [B, K - 1, D], what the kernel saw last."""

    attention: AttentionState
    conv: Tensor


class ConformerBlock(StreamingLayer[BlockState]):
    """One block: encoder frames [B, T, D] to as many; nothing is held back."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.ffw_layer_start = FeedForward(config)
        self.attention = ConformerAttention(config)
        self.lconv1d = LightConv(config)
        self.ffw_layer_end = FeedForward(config)
        self.norm = RMSNorm(config.hidden_size, limit=config.gradient_clipping)

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
        return self.norm(x), BlockState(attention, conv)

    def flush(self, state: BlockState) -> Tensor:
        """Nothing is held back; [B, 0, D]."""
        return state.conv[:, :0]
