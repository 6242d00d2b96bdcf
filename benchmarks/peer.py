"""transformers with the weights of the same folder: the peer of every comparison.

Used the way its users do: bf16, scaled-dot-product attention, a dynamic cache, logits of the last
position only where it offers that. Unusual: `from_pretrained` maps the files as we do, so its
tensors and ours are the same pages of memory.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

SOFT_TOKENS = 188  # what its processor puts in for any sound


class Peer:
    """Gemma3nForConditionalGeneration, and its feature extractor for sound."""

    def __init__(self, model: Any) -> None:
        from transformers import Gemma3nAudioFeatureExtractor

        self.model = model
        self.config = model.config
        self.extractor = Gemma3nAudioFeatureExtractor()

    @classmethod
    def load(cls, folder: Path, device: str) -> "Peer":
        """Reads ``folder``; Unavailable without transformers."""
        from benchmarks.rows import Unavailable

        try:
            from transformers import Gemma3nForConditionalGeneration
            from transformers.utils import logging as reports
        except ModuleNotFoundError as error:
            raise Unavailable(f"transformers is not installed ({error}): pip install it") from None
        reports.disable_progress_bar()
        logging.getLogger("transformers").setLevel(logging.ERROR)
        model: Any = Gemma3nForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16)
        return cls(model.to(device=device).eval())

    @property
    def device(self) -> torch.device:
        return self.model.device

    def new_cache(self):
        from transformers import DynamicCache

        return DynamicCache(config=self.config.text_config)

    @torch.inference_mode()
    def text(self, ids: Tensor, cache) -> Tensor:
        """Logits [1, V] after ``ids`` [1, L], appended to ``cache``."""
        hidden = self.model.model.language_model(
            input_ids=ids, past_key_values=cache, use_cache=True
        ).last_hidden_state
        logits = self.model.lm_head(hidden[:, -1])
        cap = self.config.text_config.final_logit_softcapping
        return torch.tanh(logits / cap) * cap

    @torch.inference_mode()
    def mel(self, samples: np.ndarray) -> tuple[Tensor, Tensor]:
        """Features [1, T, F] of a sound, and which of them are real, bool [1, T]."""
        found = self.extractor(samples, return_tensors="pt")
        features = found["input_features"].to(self.device, torch.bfloat16)
        return features, found["input_features_mask"].bool().to(self.device)

    @torch.inference_mode()
    def encode(self, samples: np.ndarray) -> Tensor:
        """The sound's soft tokens, all in one pass: [1, K, D]."""
        features, real = self.mel(samples)
        return self.model.model.get_audio_features(features, ~real, return_dict=True).pooler_output

    @torch.inference_mode()
    def answer(self, samples: np.ndarray, before: list[int], after: list[int]) -> int:
        """The first token behind a prompt with the whole sound in it."""
        soft = [self.config.audio_token_id] * SOFT_TOKENS
        ids = torch.tensor([[*before, *soft, *after]], device=self.device)
        features, real = self.mel(samples)
        found = self.model(
            input_ids=ids,
            input_features=features,
            input_features_mask=real,
            use_cache=True,
            logits_to_keep=1,
        )
        return int(found.logits[0, -1].argmax())
