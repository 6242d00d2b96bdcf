"""Mel frames (10 ms) to encoder frames (40 ms): two strided convolutions and a projection.

Between the log-mel front end and the Conformer. Unusual: time is padded after the end of the input
only, by each convolution for itself, so nothing is known to be the last frame before `flush`; and
the norm after each convolution is cumulative over time. Inside, data lies as [B, T, F, C], which is
the channels-last layout that convolutions like.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dragoman.encoders.config import AudioConfig
from dragoman.encoders.linear import Linear
from dragoman.encoders.norms import CumulativeGroupNorm, GroupNormState
from dragoman.encoders.streaming import StreamingLayer, finish_chain, flush_chain, step_chain


@dataclass
class ConvState:
    """tail: [B, T, F, C], what later outputs need, less than the kernel; norm: statistics."""

    tail: Tensor
    norm: GroupNormState


class ConvBlock(StreamingLayer[ConvState]):
    """Convolution, cumulative group norm, ReLU: [B, T, F, C] to [B, T', F', C']."""

    def __init__(self, config: AudioConfig, index: int) -> None:
        super().__init__()
        channels, kernel = config.sscp_conv_channel_size, config.sscp_conv_kernel_size[index]
        self.stride = config.sscp_conv_stride_size[index][0]
        self.lookahead = kernel[0] - 1
        shapes = [(config.input_feat_size, 1), *zip(config.frequencies(), channels, strict=True)]
        self.in_shape, self.out_shape = shapes[index], shapes[index + 1]
        self.conv = nn.Conv2d(
            self.in_shape[1],
            channels[index],
            kernel,
            config.sscp_conv_stride_size[index],
            padding=(0, 1),  # frequency only; the end of time is padded in `flush`
            bias=False,
        )
        self.norm = CumulativeGroupNorm(channels[index], config.sscp_conv_group_norm_eps)

    def init_state(
        self, batch: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> ConvState:
        """No frames heard."""
        weight = self.conv.weight
        device, dtype = device or weight.device, dtype or weight.dtype
        tail = torch.zeros(batch, 0, *self.in_shape, device=device, dtype=dtype)
        return ConvState(tail, self.norm.init_state(batch, device))

    def forward(self, x: Tensor) -> Tensor:
        """x: float [B, T, F, C]; gives ceil(T / stride) frames."""
        return self._run(self._padded(x), self.norm.init_state(x.shape[0], x.device))[0]

    def step(self, x: Tensor, state: ConvState) -> tuple[Tensor, ConvState]:
        """x: float [B, T, F, C], the next frames."""
        heard = torch.cat([state.tail, x.to(state.tail.dtype)], dim=1)
        y, norm = self._run(heard, state.norm)
        return y, ConvState(heard[:, y.shape[1] * self.stride :].clone(), norm)

    def flush(self, state: ConvState) -> Tensor:
        """The frames whose window reaches past the end; absent input counts as zeros."""
        return self._run(self._padded(state.tail), state.norm)[0]

    def finish(self, x: Tensor, state: ConvState) -> Tensor:
        """x: float [B, T, F, C], the last frames."""
        heard = torch.cat([state.tail, x.to(state.tail.dtype)], dim=1)
        return self._run(self._padded(heard), state.norm)[0]

    def _padded(self, x: Tensor) -> Tensor:
        return functional.pad(x, (0, 0, 0, 0, 0, self.lookahead))

    def _run(self, x: Tensor, norm: GroupNormState) -> tuple[Tensor, GroupNormState]:
        x = x.to(self.conv.weight.dtype)
        if x.shape[1] <= self.lookahead:
            return x.new_zeros(x.shape[0], 0, *self.out_shape), norm
        y = self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y, norm = self.norm.step(y, norm)
        return functional.relu(y), norm


@dataclass
class SubsampleState:
    """One state for each convolution."""

    convs: tuple[ConvState, ConvState]


class SubSampleConvProjection(StreamingLayer[SubsampleState]):
    """Mel frames [B, T, F] to encoder frames [B, T', D]; four to one in the official model."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.conv_0 = ConvBlock(config, 0)
        self.conv_1 = ConvBlock(config, 1)
        frequencies, channels = self.conv_1.out_shape
        self.input_proj_linear = Linear(frequencies * channels, config.hidden_size)
        self.stride = self.conv_0.stride * self.conv_1.stride
        self.lookahead = self.conv_0.lookahead + self.conv_0.stride * self.conv_1.lookahead

    @property
    def _convs(self) -> tuple[ConvBlock, ConvBlock]:
        return self.conv_0, self.conv_1

    def init_state(
        self, batch: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> SubsampleState:
        """No frames heard."""
        first, second = (conv.init_state(batch, device, dtype) for conv in self._convs)
        return SubsampleState((first, second))

    def forward(self, x: Tensor) -> Tensor:
        """x: float [B, T, F], mel frames; gives [B, ceil(ceil(T / 2) / 2), D]."""
        return self._project(self.conv_1(self.conv_0(self._checked(x))))

    def step(self, x: Tensor, state: SubsampleState) -> tuple[Tensor, SubsampleState]:
        """x: float [B, T, F], the next mel frames."""
        y, (first, second) = step_chain(self._convs, self._checked(x), state.convs)
        return self._project(y), SubsampleState((first, second))

    def flush(self, state: SubsampleState) -> Tensor:
        """The frames that were waiting for more mel frames."""
        return self._project(flush_chain(self._convs, state.convs))

    def finish(self, x: Tensor, state: SubsampleState) -> Tensor:
        """x: float [B, T, F], the last mel frames."""
        return self._project(finish_chain(self._convs, self._checked(x), state.convs))

    def _project(self, x: Tensor) -> Tensor:
        return self.input_proj_linear(x.flatten(2))

    def _checked(self, x: Tensor) -> Tensor:
        bands = self.conv_0.in_shape[0]
        if x.dim() != 3 or x.shape[2] != bands:
            raise ValueError(
                f"the audio encoder takes mel frames [B, T, {bands}]; got {list(x.shape)}. "
                "Give it the output of LogMel with as many bands as audio_config.input_feat_size."
            )
        return x.unsqueeze(-1)
