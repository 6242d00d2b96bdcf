"""Encoders: sound to soft tokens. Needs torch only."""

from encoders.audio import AudioEncoder, EncoderState, StreamingAudioEncoder, StreamingAudioState
from encoders.config import AudioConfig
from encoders.embedder import MultimodalEmbedder
from encoders.features import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES, LogMel, MelState
from encoders.streaming import StreamingLayer, phase_of, split_state, stack_states, state_bytes

__all__ = [
    "HOP_SAMPLES",
    "SAMPLE_RATE_HZ",
    "WINDOW_SAMPLES",
    "AudioConfig",
    "AudioEncoder",
    "EncoderState",
    "LogMel",
    "MelState",
    "MultimodalEmbedder",
    "StreamingAudioEncoder",
    "StreamingAudioState",
    "StreamingLayer",
    "phase_of",
    "split_state",
    "stack_states",
    "state_bytes",
]
