"""transformers reads the same folder and, from the same sound, generates the same tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import LongTensor, Tensor, nn
from transformers import (
    Gemma3nAudioConfig,
    Gemma3nAudioFeatureExtractor,
    Gemma3nForCausalLM,
    Gemma3nTextConfig,
)
from transformers.models.gemma3n.modeling_gemma3n import (
    Gemma3nAudioEncoder,
    Gemma3nMultimodalEmbedder,
)

from dragoman.models import prompt as prompts
from dragoman.models.hub import BUNDLED
from dragoman.models.tokenizer import Tokenizer
from dragoman.stages.encode import EncodeStage
from dragoman.stages.messages import CHUNK_SAMPLES, SessionOptions, Speech
from dragoman.stages.spoken import Reader
from dragoman.stages.translate import TranslateStage
from tests.encoders.helpers import sound
from tests.models import reading

TALK = Path(__file__).resolve().parents[2] / "samples" / "talk.wav"
CHUNKS = 24
NEVER_EARLY = SessionOptions(update_chunks=10_000, max_answer_tokens=32)


@dataclass(frozen=True)
class Reference:
    """transformers' modules with the folder's weights."""

    text: Gemma3nForCausalLM
    audio: Gemma3nAudioEncoder
    embedder: Gemma3nMultimodalEmbedder

    @torch.no_grad()
    def soft_tokens(self, samples: np.ndarray) -> Tensor:
        """Whole clip [S] to soft tokens [1, K, D]."""
        extracted = Gemma3nAudioFeatureExtractor()(samples, return_tensors="pt")
        mel = extracted["input_features"]
        encoded = self.audio(mel, torch.zeros(mel.shape[:2], dtype=torch.bool)).last_hidden_state
        return self.embedder(inputs_embeds=encoded)

    @torch.no_grad()
    def next(self, ids: list[int], soft: Tensor, soft_token: int) -> int:
        """The likeliest text id after ``ids``, in which ``soft_token`` stands for each of soft."""
        row = torch.tensor([ids])
        text = self.text.model
        hard = row >= self.embedder.vocab_offset
        embeddings = text.embed_tokens(row)
        embeddings[hard & (row != soft_token)] = self.embedder(
            input_ids=row[hard & (row != soft_token)][None]
        )[0]
        embeddings[row == soft_token] = soft[0]
        hidden = text(
            inputs_embeds=embeddings,
            per_layer_inputs=text.get_per_layer_inputs(cast(LongTensor, row)),
        ).last_hidden_state[0, -1]
        return int(self.text.lm_head(hidden)[: text.config.vocab_size_per_layer_input].argmax())


@pytest.fixture(scope="module", params=["tiny", "nano"])
def folder(request, tiny_folder) -> Path:
    if request.param == "tiny":
        return tiny_folder
    if not (BUNDLED / "nano" / "model.safetensors").is_file():
        pytest.skip("models/nano/model.safetensors is absent: the bundled model is not trained yet")
    return BUNDLED / "nano"


@pytest.fixture(scope="module")
def reference(folder) -> Reference:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = Gemma3nTextConfig(**config["text_config"])
    audio = Gemma3nAudioConfig(**config["audio_config"])
    tensors = {n: t.float() for n, t in load_file(folder / "model.safetensors").items()}
    whole = Reference(
        Gemma3nForCausalLM(text), Gemma3nAudioEncoder(audio), Gemma3nMultimodalEmbedder(audio, text)
    )
    fill(whole.text.model, "model.language_model.", tensors)
    fill(whole.audio, "model.audio_tower.", tensors)
    fill(whole.embedder, "model.embed_audio.", tensors)
    assert not tensors, f"nobody took {sorted(tensors)}"
    whole.text.tie_weights()
    return whole


def fill(module: nn.Module, prefix: str, tensors: dict[str, Tensor]) -> None:
    """Takes what begins with ``prefix``; no key may be missing or unexpected."""
    names = [name for name in tensors if name.startswith(prefix)]
    module.load_state_dict({n.removeprefix(prefix): tensors.pop(n) for n in names}, strict=True)
    module.eval()


def speech() -> np.ndarray:
    """The first seconds of the bundled talk, or a sound; a whole number of chunks."""
    if not TALK.is_file():
        return sound(1, CHUNKS * CHUNK_SAMPLES, seed=3)[0].numpy()
    import soundfile

    samples, rate = soundfile.read(TALK, frames=CHUNKS * CHUNK_SAMPLES, dtype="float32")
    assert rate == 16_000 and samples.shape == (CHUNKS * CHUNK_SAMPLES,)
    return samples


def ours(folder: Path, samples: np.ndarray):
    """The state after a session that commits nothing before its end; its soft tokens [K, D]."""
    encode, translate = EncodeStage.load(str(folder)), TranslateStage.load(str(folder))
    heard, state = encode.init_state(NEVER_EARLY), translate.init_state(NEVER_EARLY)
    soft = []
    for start in range(0, len(samples), CHUNK_SAMPLES):
        piece = samples[start : start + CHUNK_SAMPLES]
        last = start + CHUNK_SAMPLES >= len(samples)
        (tokens,), heard = encode.step(Speech(0, start, piece, start == 0, last), heard)
        _, state = translate.step(tokens, state)
        soft.append(tokens.tokens)
    return state, torch.cat(soft)


def test_the_same_tokens(folder, reference):
    samples = speech()
    state, soft = ours(folder, samples)
    silence = np.zeros(CHUNK_SAMPLES, np.float32)  # so that the last sound is heard
    theirs = reference.soft_tokens(np.concatenate([samples, silence]))
    assert soft.shape == theirs.shape[1:] == (CHUNKS + 1, soft.shape[1])
    torch.testing.assert_close(soft, theirs[0], atol=2e-4, rtol=0)

    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    prompt = prompts.build(tokenizer, "es", "en")
    soft_token = tokenizer.special("<audio_soft_token>")
    ids = [*prompt.before, *[soft_token] * len(soft), *prompt.after]
    reader = Reader(tokenizer, "es", "en")

    def answer(ids: list[int]) -> list[int]:
        said: list[int] = []
        while len(said) < NEVER_EARLY.max_answer_tokens:
            token = reference.next([*ids, *said], theirs, soft_token)
            if token in prompt.stop:
                break
            said.append(token)
        return said

    said = reader.transcript(answer(ids))
    assert state.transcript.ids == said
    meant = answer([*ids, *said, *prompt.separator])
    assert state.translation.ids == reading.translation(reader, said, meant)
    if folder != BUNDLED / "nano":
        assert len(set(said)) > 4, "the answer is too dull to tell models apart"
        assert set(said) & set(prompt.newlines), "no newline shows that a transcript goes on"


def test_configuration_and_tokenizer_agree(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    assert config["audio_token_id"] == tokenizer.special("<audio_soft_token>")
    assert config["eoa_token_id"] == tokenizer.special("<end_of_audio>")
    assert config["audio_config"]["vocab_offset"] == tokenizer.special("<end_of_audio>")
    assert config["text_config"]["vocab_size"] == tokenizer.vocab_size
    assert config["eos_token_id"] == [tokenizer.special(t) for t in ("<eos>", "<end_of_turn>")]
