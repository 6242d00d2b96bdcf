"""The bundled model as it is trained: encoder, embedder and decoder in one module, and its loss.

The letters' CTC loss at the 40 ms frames teaches the encoder to hear before the decoder can use it;
its head is dropped afterwards. Half-width steps train the nested smaller model (MatFormer).
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decoder import LanguageModel, TextConfig
from encoders import AudioConfig, AudioEncoder, LogMel, MultimodalEmbedder
from models.prompt import Prompt
from training.batch import IGNORE, LETTERS, Batch

BRANCH_GAIN = 0.1


@dataclass(frozen=True)
class Losses:
    """Means over a batch: ``answer`` in nats a token, ``letters`` in nats a letter."""

    answer: Tensor
    letters: Tensor

    def total(self, letters_weight: float) -> Tensor:
        return self.answer + letters_weight * self.letters


class Nano(nn.Module):
    """Everything that is trained, and the way from audio to the loss."""

    def __init__(self, config: dict[str, Any], prompt: Prompt, soft_token: int) -> None:
        super().__init__()
        text, audio = TextConfig.from_dict(config["text_config"]), config["audio_config"]
        self.mel = LogMel()
        self.audio_tower = AudioEncoder(AudioConfig.from_dict(audio))
        self.embed_audio = MultimodalEmbedder(
            vocab_size=audio["vocab_size"],
            vocab_offset=audio["vocab_offset"],
            multimodal_hidden_size=audio["hidden_size"],
            text_hidden_size=text.hidden_size,
            eps=audio["rms_norm_eps"],
        )
        self.language_model = LanguageModel(text)
        self.letters = nn.Linear(audio["hidden_size"], len(LETTERS) + 1)
        ease(self.audio_tower)
        self.prompt, self.soft_token = prompt, soft_token
        self.reduction = audio["conf_reduction_factor"]

    def losses(
        self,
        batch: Batch,
        mel_mask: Tensor | None,
        ffn_width: int | None,
        hearing_only: bool = False,
    ) -> Losses:
        """``mel_mask``: bool [B, T, F], True where SpecAugment blanks the features.

        With ``hearing_only`` the decoder stays out of it, and the answer's loss is zero.
        """
        with torch.no_grad():
            mel = self.mel(batch.audio)
        if mel_mask is not None:
            mel = mel.masked_fill(mel_mask[:, : mel.shape[1]], mel.mean().item())
        frames = self.audio_tower.frames(mel)
        letters = self._letters_loss(frames, batch)
        if hearing_only:
            return Losses(answer=torch.zeros(()), letters=letters)
        soft = self.embed_audio.soft(frames[:, :: self.reduction])
        return Losses(answer=self._answer_loss(soft, batch, ffn_width), letters=letters)

    def _letters_loss(self, frames: Tensor, batch: Batch) -> Tensor:
        scores = self.letters(frames).float().log_softmax(-1).transpose(0, 1)
        loss = F.ctc_loss(
            scores,
            batch.letters,
            (batch.tokens * self.reduction).clamp(max=scores.shape[0]),
            batch.letter_counts,
            reduction="sum",
            zero_infinity=True,
        )
        return loss / batch.letter_counts.sum().clamp(min=1)

    def _answer_loss(self, soft: Tensor, batch: Batch, ffn_width: int | None) -> Tensor:
        ids, valid, first_answer = self._layout(soft.shape[1], batch)
        embeddings = self._embed(ids, soft)
        L = batch.answers.shape[1]
        outputs = torch.arange(first_answer - 1, first_answer - 1 + L).expand(len(ids), L)
        logits = self.language_model(
            embeddings, ids, valid=valid, outputs=outputs, ffn_width=ffn_width
        )
        return F.cross_entropy(logits.flatten(0, 1), batch.answers.flatten(), ignore_index=IGNORE)

    def _layout(self, K: int, batch: Batch) -> tuple[Tensor, Tensor, int]:
        """Ids [B, before + K + after + answer], which of them count, where the answer begins."""
        B = len(batch.tokens)
        before = torch.tensor(self.prompt.before).expand(B, -1)
        after = torch.tensor(self.prompt.after).expand(B, -1)
        soft = torch.full((B, K), self.soft_token)
        answer = batch.answers[:, :-1].clamp(min=0)
        ids = torch.cat((before, soft, after, answer), dim=1)
        valid = torch.ones_like(ids, dtype=torch.bool)
        start = before.shape[1]
        valid[:, start : start + K] = torch.arange(K) < batch.tokens[:, None]
        first_answer = start + K + after.shape[1]
        valid[:, first_answer:] = batch.answers[:, :-1] != IGNORE
        return ids, valid, first_answer

    def _embed(self, ids: Tensor, soft: Tensor) -> Tensor:
        embeddings = self.language_model.embed(ids)
        start, K = len(self.prompt.before), soft.shape[1]
        end = self.embed_audio.hard(torch.tensor([self.prompt.after[0]]))
        pieces = (
            embeddings[:, :start],
            soft,
            end.expand(len(ids), 1, -1),
            embeddings[:, start + K + 1 :],
        )
        return torch.cat([piece.to(soft.dtype) for piece in pieces], dim=1)


@torch.no_grad()
def ease(tower: AudioEncoder) -> None:
    """Lets a new tower begin as little more than its input, changing over time as that does.

    With ordinary random weights most of what leaves twelve residual branches behind rectified
    convolutions is the same at every frame. CTC then settles on one answer for all of them, and the
    gradient that could end this is thousands of times too small: 64 utterances were learnt by heart
    in 100 steps with this start, and not begun after as many without.
    """
    for name, parameter in tower.named_parameters():
        if name.endswith(("post_layer_norm.weight", "post_norm.weight")):
            parameter.fill_(BRANCH_GAIN)
        elif name.endswith("lconv1d.linear_end.weight"):
            parameter.mul_(BRANCH_GAIN)
        elif name.endswith(("conv_1.conv.weight", "input_proj_linear.weight")):
            parameter.sub_(parameter.flatten(1).mean(1).view(-1, *[1] * (parameter.dim() - 1)))
