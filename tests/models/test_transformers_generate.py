"""transformers' own processor and `generate`, fed the same sound and pictures, give our answers.

With the audio filled up to 188 soft tokens, as the processor always does it, and without, where the
ids are put together by hand. Pictures stand between the instruction and the audio.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import Gemma3nForConditionalGeneration

from dragoman.decoder import LanguageModel
from dragoman.encoders.vision import prepare
from dragoman.models import prompt as prompts
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.prompt import AUDIO_TOKENS
from dragoman.stages.encode import EncodeStage
from dragoman.stages.look import LookStage
from dragoman.stages.messages import CHUNK_SAMPLES, Picture, SessionOptions, Speech, VideoFrame
from dragoman.stages.spoken import Reader
from dragoman.stages.translate import TranslateStage, TranslateState
from tests import nano_like, seeing
from tests.encoders.helpers import sound
from tests.models import official, reading

CHUNKS, MOST = 7, 14
SILENCE = np.zeros(CHUNK_SAMPLES, np.float32)  # what the encode stage hears behind a segment


def pages(count: int) -> list[np.ndarray]:
    """Pictures uint8 [H, W, 3] with a blot, each another one."""
    drawn = [np.full((120, 200, 3), 240, np.uint8) for _ in range(count)]
    for number, page in enumerate(drawn):
        page[::9] = (20, 90, 160)
        page[30:80, 50 * number : 60 + 50 * number] = (200, 30 + 90 * number, 30)
    return drawn


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Random weights that go on about anything, over newlines too, without falling into loops."""
    made = tmp_path_factory.mktemp("seed")
    return seeing.make(made / "seeing", nano_like.make(made / "blind", seed=9))


class Ours:
    """The stages over a folder; a segment in pieces, answered when it closes."""

    def __init__(self, folder: Path) -> None:
        self.look, self.encode = LookStage.load(str(folder)), EncodeStage.load(str(folder))
        self.translate = TranslateStage.load(str(folder))

    def hear(self, samples: np.ndarray, pixels: list[np.ndarray], pad: bool) -> TranslateState:
        options = SessionOptions(update_chunks=10_000, max_answer_tokens=MOST, pad_audio=pad)
        stages = (self.look, self.encode, self.translate)
        states: list[Any] = [stage.init_state(options) for stage in stages]
        pictures = tuple(Picture(VideoFrame(float(n), n), page) for n, page in enumerate(pixels))
        for start in range(0, len(samples), CHUNK_SAMPLES):
            piece = samples[start : start + CHUNK_SAMPLES]
            opens, closes = start == 0, start + CHUNK_SAMPLES >= len(samples)
            shown = pictures if opens else ()
            items: list[Any] = [Speech(0, start, piece, opens, closes, pictures=shown)]
            for n, stage in enumerate(stages):
                items, states[n] = stage.step(items[0], states[n])
        return states[-1]

    def logits(
        self, monkeypatch, before: Sequence[int], *asked: Any
    ) -> tuple[TranslateState, dict[tuple[int, ...], Tensor]]:
        """The state after `hear`, and the logits [V] behind all ids of which any were wanted.

        A pass gives logits behind its guesses too, so what was chosen is found by the ids before
        it. ``before``: the ids of the prompt that no pass puts in where there is no picture.
        """
        seen: dict[tuple[int, ...], Tensor] = {}
        held, answer = [*before], LanguageModel.answer

        def spy(model: Any, embeddings: Tensor, ids: Tensor, cache: Any, wanted: int) -> Tensor:
            held[cache.length :] = ids[0].tolist()
            found = answer(model, embeddings, ids, cache, wanted)
            ends = range(len(held) - wanted + 1, len(held) + 1)
            seen.update(zip([tuple(held[:end]) for end in ends], found[0], strict=True))
            return found

        monkeypatch.setattr(LanguageModel, "answer", spy)
        state = self.hear(*asked)
        monkeypatch.undo()
        return state, seen


class Theirs:
    """transformers' model and processor over the same folder."""

    def __init__(self, folder: Path, audio_tokens: int) -> None:
        self.model: Any = Gemma3nForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, audio_soft_tokens_per_image=audio_tokens
        )
        self.model.eval()
        self.processor: Any = official.processor(folder / "tokenizer.json", seeing.RESOLUTION)

    def processed(self, samples: np.ndarray, pixels: list[np.ndarray]) -> dict[str, Any]:
        """What the processor makes of our prompt: all that `generate` takes."""
        text = "Transcribe the following speech segment in Spanish, then translate it into English:"
        parts = [
            {"type": "text", "text": text},
            *({"type": "image", "image": page} for page in pixels),
            {"type": "audio", "audio": np.concatenate([samples, SILENCE])},
        ]
        chat = [{"role": "user", "content": parts}]
        return self.processor.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )

    def answer(self, inputs: dict[str, Any], stop: list[int]) -> tuple[list[int], Tensor]:
        """The ids up to ``stop``, and the logits [N, V] behind which each id was chosen."""
        never = list(range(nano_like.TEXT_VOCAB, self.model.config.text_config.vocab_size))
        made = self.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=MOST,
            eos_token_id=stop,
            suppress_tokens=never,
            output_logits=True,
            return_dict_in_generate=True,
        )
        ids = made.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        return (ids[:-1] if ids[-1] in stop else ids), torch.cat(made.logits)


def behind(inputs: dict[str, Any], ids: list[int]) -> dict[str, Any]:
    """The same inputs with ``ids`` behind the prompt."""
    row = torch.cat([inputs["input_ids"], torch.tensor([ids], dtype=torch.long)], dim=1)
    kept = {k: v for k, v in inputs.items() if k not in ("attention_mask", "token_type_ids")}
    return kept | {"input_ids": row, "attention_mask": torch.ones_like(row)}


@pytest.mark.parametrize("images", [0, 1, 2])
@pytest.mark.parametrize("pad", [True, False])
@torch.no_grad()
def test_generated_tokens_and_logits_are_equal(folder, monkeypatch, images, pad):
    samples, other = (sound(1, CHUNKS * CHUNK_SAMPLES, seed=s)[0].numpy() for s in (3, 4))
    ours, pixels = Ours(folder), pages(images)
    tokenizer = Checkpoint.open(str(folder)).tokenizer
    prompt = prompts.build(tokenizer, "es", "en", images=images)
    state, logits = ours.logits(monkeypatch, prompt.before, samples, pixels, pad)
    assert state.audio == CHUNKS + 1
    count = AUDIO_TOKENS if pad else state.audio
    theirs = Theirs(folder, count)
    inputs = theirs.processed(samples, pixels)
    ids = [*prompt.before, *[tokenizer.special("<audio_soft_token>")] * count, *prompt.after]
    if pad:
        assert inputs["input_ids"][0].tolist() == ids
    inputs = behind(dict(inputs) | {"input_ids": torch.tensor([ids])}, [])
    if images:
        own = torch.stack([prepare(torch.from_numpy(p), seeing.RESOLUTION) for p in pixels])
        torch.testing.assert_close(inputs["pixel_values"], own, atol=1e-6, rtol=0)

    reader, stop = Reader(tokenizer, "es", "en"), list(prompt.stop)
    answer, expected = theirs.answer(inputs, stop)
    said = reader.transcript(answer)
    translated, rest = theirs.answer(behind(inputs, [*said, *prompt.separator]), stop)
    meant = reading.translation(reader, said, translated)
    assert (state.transcript.ids, state.translation.ids) == (said, meant)
    asked = [*ids, *said, *prompt.separator]
    chosen = [(*ids, *answer[:n]) for n in range(len(expected))]
    chosen += [(*asked, *translated[:n]) for n in range(len(rest))]
    found = torch.stack([logits[before] for before in chosen])
    torch.testing.assert_close(found, torch.cat([expected, rest]), atol=1e-4, rtol=0)
    assert len(set(said + meant)) > 4, "the answers are too dull to tell models apart"

    strange = {"sound": (other, pixels, pad), "padding": (samples, pixels, not pad)}
    if images:
        strange["pictures"] = (samples, [page // 2 for page in pixels], pad)
    for what, heard in strange.items():
        changed = next(iter(ours.logits(monkeypatch, prompt.before, *heard)[1].values()))
        assert (changed - found[0]).abs().max() > 1e-3, f"the {what} must matter"
