"""The bundled model as it is trained: encoder, embedder and decoder in one module, and its loss.

The letters' CTC loss at the 40 ms frames teaches the encoder to hear before the decoder can use it.
Only every fourth frame becomes a soft token, so a second head makes that frame tell the letters of
the three before it too. Both heads are dropped afterwards. Steps at a smaller size train the nested
models (MatFormer). A batch without audio goes through the decoder alone.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from dragoman.decoder import LanguageModel, Slice, TextConfig
from dragoman.encoders import AudioConfig, AudioEncoder, LogMel, MultimodalEmbedder
from training.batch import IGNORE, LETTERS, PADDING, Batch

BRANCH_GAIN = 0.1
BLANK = 0  # <pad>


@dataclass(frozen=True)
class Losses:
    """Means over a batch: ``answer`` in nats a token, ``letters`` in nats a letter, ``gathered`` in
    nats a frame (what a soft token does not know of its four frames' letters).
    """

    answer: Tensor
    letters: Tensor
    gathered: Tensor

    def total(self, letters_weight: float) -> Tensor:
        return self.answer + letters_weight * (self.letters + self.gathered)


class Nano(nn.Module):
    """Everything that is trained, and the way from audio to the loss."""

    def __init__(self, config: dict[str, Any], after: tuple[int, ...], soft_token: int) -> None:
        """``after``: the ids between audio and answer, which no language changes."""
        super().__init__()
        text, audio = TextConfig.from_dict(config["text_config"]), config["audio_config"]
        self.mel = LogMel(precision=torch.float32)  # close enough to learn from, and quick
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
        reduction = audio["conf_reduction_factor"]
        self.gathered = skip_init(nn.Linear, audio["hidden_size"], reduction * (len(LETTERS) + 1))
        for parameter in self.gathered.parameters():
            nn.init.zeros_(parameter)
        ease(self.audio_tower)
        soften(self.language_model)
        self.after, self.soft_token = after, soft_token
        self.reduction = reduction

    @property
    def device(self) -> torch.device:
        """Where the work is done."""
        return self.language_model.device

    def losses(
        self,
        batch: Batch,
        mel_mask: Tensor | None = None,
        size: Slice | None = None,
        hearing_only: bool = False,
        forget: float = 0.0,
    ) -> Losses:
        """``mel_mask``: bool [B, T, F], True where SpecAugment blanks the features.

        With ``hearing_only`` the decoder stays out of it, and the answer's loss is zero. ``forget``
        is the share of the answer's own words that are blanked in the decoder's input: what it can
        no longer guess from the words before, it has to hear. ``size`` is the decoder's, None: all
        of it.
        """
        nothing = torch.zeros((), device=self.device)
        if batch.features is not None:
            soft = self.embed_audio.soft(batch.features)
            return Losses(self._answer_loss(soft, batch, size, forget), nothing, nothing)
        if not batch.audio.shape[1]:
            soft = torch.zeros(len(batch.tokens), 0, self.embed_audio.width, device=self.device)
            return Losses(self._answer_loss(soft, batch, size, forget), nothing, nothing)
        with torch.no_grad():
            mel = self.mel(batch.audio)
        if mel_mask is not None:
            mel = torch.where(mel_mask[:, : mel.shape[1]], mel.mean(), mel)
        frames = self.audio_tower.frames(mel)
        scores = self.letters(frames).float().log_softmax(-1)
        letters = self._letters_loss(scores, batch)
        gathered = self._gathered_loss(frames, scores.detach(), batch)
        if hearing_only:
            return Losses(nothing, letters, gathered)
        soft = self.embed_audio.soft(frames[:, :: self.reduction])
        return Losses(self._answer_loss(soft, batch, size, forget), letters, gathered)

    @torch.no_grad()
    def features(self, audio: Tensor) -> Tensor:
        """What the encoder makes of audio [B, S]: [B, K, D], before the embedder."""
        return self.audio_tower(self.mel(audio))

    def _letters_loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """CTC (Graves et al., 2006) on log probabilities [B, T', letters and blank]."""
        loss = F.ctc_loss(
            scores.transpose(0, 1),
            batch.letters,
            (batch.tokens * self.reduction).clamp(max=scores.shape[1]),
            batch.letter_counts,
            reduction="none",
            zero_infinity=True,
        )
        return (loss * batch.lettered).sum() / batch.letter_counts.sum().clamp(min=1)

    def _gathered_loss(self, frames: Tensor, scores: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of what kept frame 4k says of frames 4k-3 to 4k, with their own scores."""
        B, T, V = scores.shape
        R = self.reduction
        kept = frames[:, R::R]
        told = self.gathered(kept).float().unflatten(-1, (R, V)).log_softmax(-1)
        truth = scores[:, 1 : 1 + R * kept.shape[1]].exp().unflatten(1, (-1, R))
        loss = -(truth * told).sum(-1).mean(-1)
        places = torch.arange(1, 1 + kept.shape[1], device=kept.device)
        counts = places < batch.tokens[:, None]
        return (loss * counts).sum() / counts.sum().clamp(min=1)

    def _answer_loss(self, soft: Tensor, batch: Batch, size: Slice | None, forget: float) -> Tensor:
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


@torch.no_grad()
def soften(model: LanguageModel) -> None:
    """Lets attention begin spread out.

    The attention scale is 1 and queries and keys are normed, so with ordinary weights the logits of
    a new model deviate by sqrt(H): each query would stare at one random key, and learn slowly that
    there are others. The query's scale starts at the usual 1/sqrt(H) instead.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("q_norm.weight"):
            parameter.fill_(model.config.head_dim**-0.5)
