"""Soft tokens and text to text: the Gemma 3n language model. Needs torch only."""

from dragoman.decoder.cache import KVCache
from dragoman.decoder.config import TextConfig, kv_sources, unused_tensor_names
from dragoman.decoder.model import LanguageModel
from dragoman.decoder.slices import Slice

__all__ = [
    "KVCache",
    "LanguageModel",
    "Slice",
    "TextConfig",
    "kv_sources",
    "unused_tensor_names",
]
