"""Soft tokens and text to text: the Gemma 3n language model. Needs torch only."""

from decoder.cache import KVCache
from decoder.config import TextConfig, kv_sources, unused_tensor_names
from decoder.generate import Generation, greedy
from decoder.model import LanguageModel
from decoder.slices import Slice

__all__ = [
    "Generation",
    "KVCache",
    "LanguageModel",
    "Slice",
    "TextConfig",
    "greedy",
    "kv_sources",
    "unused_tensor_names",
]
