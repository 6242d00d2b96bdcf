"""Soft tokens and text to text: the Gemma 3n language model. Needs torch only."""

from decoder.cache import KVCache
from decoder.config import TextConfig, kv_sources, unused_tensor_names
from decoder.generate import Generation, greedy
from decoder.model import FFNWidth, LanguageModel

__all__ = [
    "FFNWidth",
    "Generation",
    "KVCache",
    "LanguageModel",
    "TextConfig",
    "greedy",
    "kv_sources",
    "unused_tensor_names",
]
