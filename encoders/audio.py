"""The audio encoder: mel frames, or samples, to one soft token every 160 ms.

The `encode` stage feeds it chunks; training feeds it clips. Parameter names equal those of
`model.audio_tower.*` in a published checkpoint, so loading is stripping that prefix. Unusual: it is
an exact streaming encoder without a limit on length. Token k depends on mel frames up to 16 k + 6
and on nothing later, so each chunk of 2 560 samples yields exactly one token, from the first chunk
on, and a token once given never changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dragoman.encoders.config import AudioConfig
from dragoman.encoders.conformer import BlockState, ConformerBlock
from dragoman.encoders.features import LogMel, MelState
from dragoman.encoders.streaming import StreamingLayer, finish_chain, flush_chain, step_chain
from dragoman.encoders.subsample import SubSampleConvProjection, SubsampleState


@dataclass
class EncoderState:
    """phase: encoder frames given so far, modulo the reduction."""

    subsample: SubsampleState
    blocks: tuple[BlockState, ...]
    phase: int


class AudioEncoder(StreamingLayer[EncoderState]):
    """Mel frames [B, T, F] to soft tokens [B, K, D], before the projection to the text width.

    Source: the Universal Speech Model (arXiv 2303.01037) as Gemma 3n has it.
    """

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.config = config
        self.reduction = config.conf_reduction_factor
        self.subsample_conv_projection = SubSampleConvProjection(config)
        self.conformer = nn.ModuleList(
            ConformerBlock(config) for _ in range(config.conf_num_hidden_layers)
        )
        self.stride = self.subsample_conv_projection.stride * self.reduction
        self.lookahead = self.subsample_conv_projection.lookahead

    def frames(self, mel: Tensor) -> Tensor:
        """Every encoder frame: mel float [B, T, F] (10 ms) to [B, T', D] (40 ms).

        In the dtype of the weights. For losses at the frame rate. Clips of different length may
        share a batch, padded at the end: a frame depends on nothing later than 6 mel frames past
        its first.

        Raises:
            ValueError: mel is not [B, T, input_feat_size].
        """
        x = self.subsample_conv_projection(mel)
        for block in self.conformer:
            x = block(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Soft tokens of whole clips: x float [B, T, F], mel frames, to [B, K, D]."""
        return self.frames(x)[:, :: self.reduction]

    def init_state(
        self, batch: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> EncoderState:
        """State of `batch` new streams."""
        blocks = tuple(block.init_state(batch, device, dtype) for block in self._blocks)
        return EncoderState(
            self.subsample_conv_projection.init_state(batch, device, dtype), blocks, 0
        )

    def step(self, x: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """x: float [B, T, F], the next mel frames; gives the soft tokens they complete."""
        y, subsample = self.subsample_conv_projection.step(x, state.subsample)
        y, blocks = self.through(y, state.blocks)
        phase = (state.phase + y.shape[1]) % self.reduction
        return self._kept(y, state.phase), EncoderState(subsample, blocks, phase)

    def flush(self, state: EncoderState) -> Tensor:
        """The soft tokens whose lookahead reaches past the end: at most one."""
        return self._last(self.subsample_conv_projection.flush(state.subsample), state)

    def finish(self, x: Tensor, state: EncoderState) -> Tensor:
        """The last mel frames and the end of input in one pass: x float [B, T, F]."""
        return self._last(self.subsample_conv_projection.finish(x, state.subsample), state)

    def _last(self, frames: Tensor, state: EncoderState) -> Tensor:
        """Soft tokens of the last encoder frames; those behind the last token reach nothing."""
        behind = (state.phase + frames.shape[1] - 1) % self.reduction
        frames = frames[:, : max(0, frames.shape[1] - behind)]
        y, _ = self.through(frames, state.blocks)  # blocks hold nothing back
        return self._kept(y, state.phase)

    def through(
        self, frames: Tensor, states: tuple[BlockState, ...]
    ) -> tuple[Tensor, tuple[BlockState, ...]]:
        """The next frames through all blocks."""
        return step_chain(self._blocks, frames, states)

    @property
    def _blocks(self) -> list[Any]:
        return list(self.conformer)

    def _kept(self, frames: Tensor, phase: int) -> Tensor:
        return frames[:, -phase % self.reduction :: self.reduction]


@dataclass
class StreamingAudioState:
    """The front end's samples and the encoder's state."""

    mel: MelState
    encoder: EncoderState


class StreamingAudioEncoder(StreamingLayer[StreamingAudioState]):
    """Samples [B, S] at 16 kHz to soft tokens [B, K, D]: 2 560 samples in, one token out."""

    def __init__(self, mel: LogMel, encoder: AudioEncoder) -> None:
        super().__init__()
        if mel.bands != encoder.config.input_feat_size:
            raise ValueError(
                f"the encoder reads {encoder.config.input_feat_size} mel bands; got a front end "
                f"of {mel.bands}. Build LogMel(config.input_feat_size)."
            )
        self.mel, self.encoder = mel, encoder
        self.stride = mel.stride * encoder.stride
        self.lookahead = mel.lookahead + mel.stride * encoder.lookahead

    def init_state(
        self, batch: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> StreamingAudioState:
        """State of `batch` new streams, on the device of the encoder's weights if not said."""
        device = device or self.encoder.subsample_conv_projection.conv_0.conv.weight.device
        return StreamingAudioState(
            self.mel.init_state(batch, device), self.encoder.init_state(batch, device, dtype)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Soft tokens of whole clips: float [B, S] to [B, K, D]."""
        return self.encoder(self.mel(x))

    def step(self, x: Tensor, state: StreamingAudioState) -> tuple[Tensor, StreamingAudioState]:
        """x: float [B, S], the next samples."""
        y, (mel, encoder) = step_chain((self.mel, self.encoder), x, (state.mel, state.encoder))
        return y, StreamingAudioState(mel, encoder)

    def flush(self, state: StreamingAudioState) -> Tensor:
        """The token whose lookahead reaches past the end, if there is one."""
        return flush_chain((self.mel, self.encoder), (state.mel, state.encoder))

    def finish(self, x: Tensor, state: StreamingAudioState) -> Tensor:
        """The last samples and the end of input in one pass: x float [B, S]."""
        return finish_chain((self.mel, self.encoder), x, (state.mel, state.encoder))
