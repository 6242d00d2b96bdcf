"""transformers loads the folder with eyes, and says the same to a text, a picture and a sound."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import Gemma3nAudioFeatureExtractor, Gemma3nForConditionalGeneration

from dragoman.encoders.vision import prepare
from dragoman.models import prompt as prompts
from dragoman.models.checkpoint import Checkpoint
from dragoman.stages.encode import EncodeStage
from dragoman.stages.look import LookStage
from dragoman.stages.messages import (
    CHUNK_SAMPLES,
    Picture,
    SessionOptions,
    SoftTokens,
    Speech,
    VideoFrame,
)
from dragoman.stages.translate import TranslateStage
from tests import nano_like, seeing
from tests.encoders.helpers import sound

CHUNKS = 8
OPTIONS = SessionOptions(update_chunks=10_000, max_answer_tokens=6)


def drawn() -> np.ndarray:
    """uint8 [H, W, 3]: stripes and a blot."""
    page = np.full((120, 200, 3), 240, np.uint8)
    page[::9] = (20, 90, 160)
    page[30:80, 50:150] = (200, 30, 30)
    return page


class Ours:
    """The stages over a folder, and the decoder without a cache."""

    def __init__(self, folder) -> None:
        self.look, self.encode = LookStage.load(str(folder)), EncodeStage.load(str(folder))
        self.translate = TranslateStage.load(str(folder))
        self.checkpoint = Checkpoint.open(str(folder))
        self.prompt = prompts.build(self.checkpoint.tokenizer, "es", "en", images=1)

    def hear(self, samples: np.ndarray, pixels: np.ndarray) -> SoftTokens:
        pictures = (Picture(VideoFrame(0.0, 0), pixels),)
        speech = Speech(0, 0, samples, opens=True, closes=True, pictures=pictures)
        (speech,), _ = self.look.step(speech, self.look.init_state(OPTIONS))
        (heard,), _ = self.encode.step(speech, self.encode.init_state(OPTIONS))
        return heard

    def answer(self, heard: SoftTokens) -> list[int]:
        _, state = self.translate.step(heard, self.translate.init_state(OPTIONS))
        return state.transcript.ids

    def logits(self, heard: SoftTokens, ids: list[int]) -> Tensor:
        """After all of ``ids``, the prompt's first: float32 [V]."""
        model, row = self.checkpoint.language_model(), torch.tensor([ids])
        embeddings = model.embed(row)
        (picture,), before = heard.pictures, len(self.prompt.before)
        image, after = self.prompt.before.index(449), before + len(heard.tokens)
        end = self.checkpoint.embedder("audio").hard(torch.tensor([self.prompt.after[0]]))
        assert picture.tokens is not None and picture.end is not None
        embeddings[0, image : image + 257] = torch.cat([picture.tokens, picture.end])
        embeddings[0, before : after + 1] = torch.cat([heard.tokens, end])
        return model(embeddings, row)[0, -1]


@pytest.mark.parametrize("seed", [3, 8])
@torch.no_grad()
def test_the_same_tokens_and_logits(seeing_folder, seed):
    ours, pixels = Ours(seeing_folder), drawn()
    samples = sound(1, CHUNKS * CHUNK_SAMPLES, seed=seed)[0].numpy()
    heard = ours.hear(samples, pixels)
    count, found = len(heard.tokens), ours.answer(heard)
    blot = ours.hear(samples, drawn()[::-1, ::-1] // 2)

    model = Gemma3nForConditionalGeneration.from_pretrained(
        seeing_folder, dtype=torch.float32, audio_soft_tokens_per_image=count
    ).eval()
    whole = np.concatenate([samples, np.zeros(CHUNK_SAMPLES, np.float32)])  # as at an endpoint
    mel = Gemma3nAudioFeatureExtractor()(whole, return_tensors="pt")["input_features"]
    audio = [ours.checkpoint.tokenizer.special("<audio_soft_token>")] * count
    answer: list[int] = []
    while len(answer) < len(found):
        ids = [*ours.prompt.before, *audio, *ours.prompt.after, *answer]
        logits = model(
            input_ids=torch.tensor([ids]),
            pixel_values=prepare(torch.from_numpy(pixels), seeing.RESOLUTION)[None],
            input_features=mel,
            input_features_mask=torch.ones(mel.shape[:2], dtype=torch.bool),
        ).logits[0, -1]
        torch.testing.assert_close(ours.logits(heard, ids), logits, atol=1e-4, rtol=0)
        assert (ours.logits(blot, ids) - logits).abs().max() > 0.01, "the picture matters"
        answer.append(int(logits[: nano_like.TEXT_VOCAB].argmax()))
    assert found == answer
    if seed == 8:
        assert len(set(found)) > 2, "the answer is too dull to tell models apart"
