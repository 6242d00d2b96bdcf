"""Speech through the model stages with the bundled model, whose words mean something."""

import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dragoman.models import hub
from dragoman.stages import translate as translate_stage
from dragoman.stages.encode import EncodeStage
from dragoman.stages.messages import CHUNK_SAMPLES, Chunk, SessionOptions, SoftTokens
from dragoman.stages.segment import SegmentStage
from dragoman.stages.translate import TranslateStage

SPOKEN = Path(__file__).resolve().parents[2] / "samples" / "talk.wav"

pytestmark = pytest.mark.skipif(
    not (hub.BUNDLED / "nano" / "model.safetensors").exists(), reason="nano is not here"
)


@pytest.fixture(scope="module")
def heard() -> list[SoftTokens]:
    """What the encoder makes of the recording, chunk by chunk."""
    with wave.open(str(SPOKEN)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16) / np.float32(32_768)
    options, segment, encode = SessionOptions(), SegmentStage(), EncodeStage.load("nano")
    cut, encoded, out = segment.init_state(options), encode.init_state(options), []
    for start in range(0, len(samples), CHUNK_SAMPLES):
        pieces, cut = segment.step(Chunk(start, samples[start : start + CHUNK_SAMPLES]), cut)
        for piece in pieces:
            tokens, encoded = encode.step(piece, encoded)
            out += tokens
    return out


@pytest.fixture(scope="module")
def stage() -> TranslateStage:
    return TranslateStage.load("nano")


def run(stage: TranslateStage, items: list[SoftTokens], options: SessionOptions):
    state, captions = stage.init_state(options), []
    for item in items:
        out, state = stage.step(item, state)
        captions += out
    return captions


@pytest.mark.parametrize("every", [2, 4])
@pytest.mark.parametrize("hurried", [1, 5])
def test_words_do_not_depend_on_how_many_tokens_wait(stage, heard, monkeypatch, every, hurried):
    """Also where only every fifth chunk comes with its update."""
    items = [replace(item, late=n % hurried != 0) for n, item in enumerate(heard)]
    options, said = SessionOptions(update_chunks=every), []
    for most in (1, translate_stage.MOST_WAITING):
        monkeypatch.setattr(translate_stage, "MOST_WAITING", most)
        said.append(run(stage, items, options))
    assert said[0] == said[1]
    words = " ".join(caption.translation.whole for caption in said[0] if caption.kind == "final")
    assert len(words.split()) > 10
