"""Encoders: sound and pictures to soft tokens. Needs torch; timm for the vision tower."""

from encoders.audio import AudioEncoder, EncoderState, StreamingAudioEncoder, StreamingAudioState
from encoders.config import AudioConfig
from encoders.embedder import MultimodalEmbedder
from encoders.features import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES, LogMel, MelState
from encoders.streaming import StreamingLayer, phase_of, split_state, stack_states, state_bytes
from encoders.vision import VisionConfig, VisionTower

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
