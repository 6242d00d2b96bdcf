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
from dragoman.decoder.config import FULL
from dragoman.encoders import AudioConfig, AudioEncoder, LogMel, MultimodalEmbedder
from training.batch import LETTERS, Batch
from training.guide import Guide
from training.listener import Listener

BRANCH_GAIN = 0.1


@dataclass(frozen=True)
class Losses:
    """Means over a batch: ``answer`` in nats a token, ``letters`` in nats a letter, ``gathered`` in
    nats a frame (what a soft token does not know of its four frames' letters), ``placed`` in nats a
    token of the transcripts (how little some heads look at where it was said).
    """

    answer: Tensor
    letters: Tensor
    gathered: Tensor
    placed: Tensor

    def total(self, letters_weight: float, placed_weight: float = 0.0) -> Tensor:
        """What is made smaller."""
        hearing = letters_weight * (self.letters + self.gathered)
        return self.answer + hearing + placed_weight * self.placed


class Nano(Listener):
    """Everything that is trained, and the way from audio to the losses."""

    def __init__(self, config: dict[str, Any], after: tuple[int, ...], soft_token: int) -> None:
        """``after``: the ids between audio and answer, which no language changes."""
        text, audio = TextConfig.from_dict(config["text_config"]), config["audio_config"]
        embedder = dict(
            vocab_size=audio["vocab_size"],
            vocab_offset=audio["vocab_offset"],
            multimodal_hidden_size=audio["hidden_size"],
            text_hidden_size=text.hidden_size,
            eps=audio["rms_norm_eps"],
        )
        super().__init__(
            LogMel(precision=torch.float32),  # close enough to learn from, and quick
            AudioEncoder(AudioConfig.from_dict(audio)),
            MultimodalEmbedder(**embedder),
            LanguageModel(text),
            after,
            soft_token,
        )
        self.letters = nn.Linear(audio["hidden_size"], len(LETTERS) + 1)
        reduction = audio["conf_reduction_factor"]
        self.gathered = skip_init(nn.Linear, audio["hidden_size"], reduction * (len(LETTERS) + 1))
        for parameter in self.gathered.parameters():
            nn.init.zeros_(parameter)
        self.guide = Guide(self.language_model, guided_heads(text))
        ease(self.audio_tower)
        soften(self.language_model)
        self.reduction = reduction

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
        if batch.features is not None or not batch.audio.shape[1]:
            answer, placed = self._answered(self.heard(batch), batch, size, forget)
            return Losses(answer, nothing, nothing, placed)
        with torch.no_grad():
            mel = self.mel(batch.audio)
        if mel_mask is not None:
            mel = torch.where(mel_mask[:, : mel.shape[1]], mel.mean(), mel)
        frames = self.audio_tower.frames(mel)
        scores = self.letters(frames).float().log_softmax(-1)
        letters = self._letters_loss(scores, batch)
        gathered = self._gathered_loss(frames, scores.detach(), batch)
        if hearing_only:
            return Losses(nothing, letters, gathered, nothing)
        soft = self.embed_audio.soft(frames[:, :: self.reduction])
        answer, placed = self._answered(soft, batch, size, forget)
        return Losses(answer, letters, gathered, placed)

    def _answered(
        self, soft: Tensor, batch: Batch, size: Slice | None, forget: float
    ) -> tuple[Tensor, Tensor]:
        """The loss of the answers, and of where the guided heads look meanwhile."""
        if batch.places is None or not soft.shape[1]:
            return self.answer_loss(soft, batch, size, forget), torch.zeros((), device=self.device)
        self.guide.begin()
        answer = self.answer_loss(soft, batch, size, forget)
        return answer, self.guide.loss(batch.places, batch.before.shape[1])

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


def guided_heads(config: TextConfig) -> list[tuple[int, int]]:
    """Two heads of the last layer with keys of the whole context, and one of the last layer that
    uses them again.
    """
    full = [i for i, kind in enumerate(config.layer_kinds) if kind == FULL]
    own = [i for i in full if i <= config.last_kv_owner][-1:]
    heads = range(min(2, config.num_attention_heads))
    return [(i, head) for i in own for head in heads] + [(i, 0) for i in full[-1:] if i not in own]


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
