"""A model that hears, as it is trained: encoder, embedder and decoder in one module, and its loss.

What the bundled model (`training.model`) and a released one that is fine-tuned (`training.lora`)
share. All modules are those that captions run on; nothing is computed in another way here. Only the
answer is learnt: logits are made at its positions alone, so instruction, sound and the tokens that
delimit them have no loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dragoman.decoder import LanguageModel, Slice
from dragoman.encoders import AudioEncoder, LogMel, MultimodalEmbedder
from training.batch import IGNORE, PADDING, Batch

BLANK = 0  # <pad>


class Listener(nn.Module):
    """From samples to the loss of an answer.

    after: the ids between sound and answer, which no language changes; soft_token: the id that
    stands for 160 ms of sound.
    """

    def __init__(
        self,
        mel: LogMel,
        audio_tower: AudioEncoder,
        embed_audio: MultimodalEmbedder,
        language_model: LanguageModel,
        after: Sequence[int],
        soft_token: int,
    ) -> None:
        super().__init__()
        self.mel, self.audio_tower, self.embed_audio = mel, audio_tower, embed_audio
        self.language_model = language_model
        self.after, self.soft_token = tuple(after), soft_token

    @property
    def device(self) -> torch.device:
        """Where the work is done."""
        return self.language_model.device

    def features(self, audio: Tensor) -> Tensor:
        """What the encoder makes of audio [B, S]: [B, K, D], before the embedder."""
        return self.audio_tower(self.mel(audio))

    def heard(self, batch: Batch) -> Tensor:
        """Soft tokens of a batch in the decoder's space: [B, K, D], K = 0 for text alone."""
        if batch.features is not None:
            return self.embed_audio.soft(batch.features)
        if not batch.audio.shape[1]:
            return torch.zeros(len(batch.tokens), 0, self.embed_audio.width, device=self.device)
        return self.embed_audio.soft(self.features(batch.audio))

    def answer_loss(
        self, soft: Tensor, batch: Batch, size: Slice | None = None, forget: float = 0.0
    ) -> Tensor:
        """Nats a token of the answers, a mean over the batch, to soft tokens [B, K, D].

        ``size`` is the decoder's, None: all of it. ``forget`` is the share of the answer's own
        words that are blanked in the decoder's input.
        """
        ids, valid, first_answer = self._layout(soft.shape[1], batch)
        if forget:
            lost = torch.rand(ids[:, first_answer:].shape, device=ids.device) < forget
            ids[:, first_answer:].masked_fill_(lost, BLANK)
        embeddings = self._embed(ids, soft, batch.before.shape[1])
        B, L = batch.answers.shape
        outputs = torch.arange(first_answer - 1, first_answer - 1 + L, device=ids.device)
        logits = self.language_model(
            embeddings, ids, valid=valid, outputs=outputs.expand(B, L), size=size
        )
        return F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE)

    def _layout(self, K: int, batch: Batch) -> tuple[Tensor, Tensor, int]:
        """Ids [B, before + K + after + answer], which of them count, where the answer begins."""
        B, P = batch.before.shape
        after = torch.tensor(self.after, device=self.device).expand(B, -1)
        soft = torch.full((B, K), self.soft_token, device=self.device)
        before, answer = batch.before.clamp(min=0), batch.answers[:, :-1].clamp(min=0)
        ids = torch.cat((before, soft, after, answer), dim=1)
        heard = torch.arange(K, device=self.device) < batch.tokens[:, None]
        always = torch.ones_like(after, dtype=torch.bool)
        written = batch.answers[:, :-1] != IGNORE
        valid = torch.cat((batch.before != PADDING, heard, always, written), dim=1)
        return ids, valid, P + K + after.shape[1]

    def _embed(self, ids: Tensor, soft: Tensor, start: int) -> Tensor:
        embeddings, K = self.language_model.embed(ids), soft.shape[1]
        end = self.embed_audio.hard(torch.tensor([self.after[0]], device=self.device))
        pieces = (
            embeddings[:, :start],
            soft,
            end.expand(len(ids), 1, -1),
            embeddings[:, start + K + 1 :],
        )
        return torch.cat([piece.to(soft.dtype) for piece in pieces], dim=1)
