"""Speech to soft tokens: the streaming encoder, one soft token in the decoder's space every 160 ms.

State starts afresh with each segment. When a segment closes, 160 ms of silence go in before the
flush: up to three encoder frames after the last kept one reach no token, and without it the last
sound would be unheard.
"""

from dataclasses import dataclass

import torch

from encoders import LogMel, MultimodalEmbedder, StreamingAudioEncoder, StreamingAudioState
from models.checkpoint import Checkpoint
from stages.messages import CHUNK_SAMPLES, SessionOptions, SoftTokens, Speech


@dataclass
class EncodeState:
    """The encoder's state of the open segment, and where the segment started."""

    encoder: StreamingAudioState | None = None
    start: int = 0


class EncodeStage:
    """Stage[Speech, SoftTokens, EncodeState]: one message out for each in, even without tokens."""

    def __init__(self, encoder: StreamingAudioEncoder, embedder: MultimodalEmbedder) -> None:
        self._encoder, self._embedder = encoder, embedder
        self._device = next(encoder.parameters()).device

    @classmethod
    def load(cls, model: str, device: str = "cpu") -> "EncodeStage":
        """Loads the audio tower and its embedder, nothing else; raises CheckpointError."""
        checkpoint = Checkpoint.open(model)
        mel = LogMel(checkpoint.audio_config.input_feat_size)
        encoder = StreamingAudioEncoder(mel, checkpoint.audio_encoder())
        return cls(encoder.to(device), checkpoint.embedder("audio").to(device))

    def init_state(self, options: SessionOptions) -> EncodeState:
        return EncodeState()

    @torch.inference_mode()
    def step(self, item: Speech, state: EncodeState) -> tuple[list[SoftTokens], EncodeState]:
        """Raises ValueError for a piece of a segment that was never opened."""
        if item.opens:
            state = EncodeState(self._encoder.init_state(1), item.start)
        if state.encoder is None:
            raise ValueError(f"segment {item.segment} is not open: feed its pieces from the first")
        # A copy: what came from another process is read-only, which torch does not know.
        samples = torch.from_numpy(item.samples.copy())[None].to(self._device)
        features, state.encoder = self._encoder.step(samples, state.encoder)
        if item.closes:
            silence = samples.new_zeros(1, CHUNK_SAMPLES)
            last, encoder = self._encoder.step(silence, state.encoder)
            features = torch.cat((features, last, self._encoder.flush(encoder)), dim=1)
            state.encoder = None
        out = SoftTokens(
            segment=item.segment,
            start=state.start,
            end=item.end,
            tokens=self._embedder.soft(features)[0].float().cpu(),
            opens=item.opens,
            closes=item.closes,
            update=item.update,
            pictures=tuple(picture.without_pixels() for picture in item.pictures),
        )
        return [out], state

    def flush(self, state: EncodeState) -> list[SoftTokens]:
        """Nothing is held back: the segmenter closes what is open."""
        return []
