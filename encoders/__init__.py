"""Encoders: sound and pictures to soft tokens. Needs torch; timm for the vision tower."""

from dragoman.encoders.audio import (
    AudioEncoder,
    EncoderState,
    StreamingAudioEncoder,
    StreamingAudioState,
)
from dragoman.encoders.config import AudioConfig
from dragoman.encoders.embedder import MultimodalEmbedder
from dragoman.encoders.features import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES, LogMel, MelState
from dragoman.encoders.streaming import (
    StreamingLayer,
    phase_of,
    split_state,
    stack_states,
    state_bytes,
)
from dragoman.encoders.vision import VisionConfig, VisionTower

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
    "VisionConfig",
    "VisionTower",
    "phase_of",
    "split_state",
    "stack_states",
    "state_bytes",
]
