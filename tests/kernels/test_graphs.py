"""Steps over fixed memory compute what the models' own steps do; on the CPU nothing is recorded."""

import copy

import pytest
import torch

from dragoman.decoder import Slice
from dragoman.encoders import LogMel
from dragoman.encoders import StreamingAudioEncoder as Encoder
from dragoman.kernels.graphs import DecodeSteps, EncoderSteps, record
from tests.encoders.helpers import sound

CHUNK = 2_560


@pytest.fixture(scope="module")
def checkpoint(tiny_folder):
    from dragoman.models.checkpoint import Checkpoint

    return Checkpoint.open(str(tiny_folder))


@pytest.mark.parametrize("width", [None, 32])
def test_decode_steps_give_the_logits_of_steps(checkpoint, width):
    """Over more positions than the window of the sliding layers, and at a smaller size."""
    model = checkpoint.language_model(torch.float32)
    layers = model.config.num_hidden_layers
    size = None if width is None else Slice(tuple(range(layers)), (width,) * layers)
    steps, cache = DecodeSteps(model, 48, size), model.new_cache(size=size)
    ids = torch.randint(5, 400, (1, 40), generator=torch.Generator().manual_seed(1))
    assert ids.shape[1] > model.config.sliding_window
    model.extend(model.embed(ids[:, :20]), ids[:, :20], cache)
    steps.begin(cache)
    for token in ids[0, 20:].tolist():
        expected = model.step(torch.tensor([token]), cache)
        assert torch.allclose(steps.step(token), expected, atol=1e-5)
    assert steps.cache.length == cache.length == 40


def test_a_second_sequence_does_not_see_the_first(checkpoint):
    model = checkpoint.language_model(torch.float32)
    steps = DecodeSteps(model, 16)
    for ids in ([7, 8, 9, 10], [11, 12]):
        cache = model.new_cache()
        steps.begin(cache)
        for token in ids:
            expected = model.step(torch.tensor([token]), cache)
            assert torch.allclose(steps.step(token), expected, atol=1e-5)


def test_what_has_no_room_is_refused(checkpoint):
    model = checkpoint.language_model(torch.float32)
    steps, cache = DecodeSteps(model, 4), model.new_cache()
    ids = torch.tensor([[5, 6, 7, 8]])
    model.extend(model.embed(ids), ids, cache)
    steps.begin(cache)
    with pytest.raises(ValueError, match="4 positions are full"):
        steps.step(9)
    model.step(torch.tensor([9]), cache)
    with pytest.raises(ValueError, match="1 rows and 5 positions, expected one row"):
        steps.begin(cache)


def test_encoder_steps_give_the_tokens_of_steps(checkpoint):
    embedder = checkpoint.embedder("audio", torch.float32)
    encoder = Encoder(LogMel(), checkpoint.audio_encoder(torch.float32))
    samples = sound(3, 8 * CHUNK, 5)
    chunks = samples.split(CHUNK, dim=1)
    with torch.inference_mode():
        expected, state = [], encoder.init_state(3)
        for chunk in chunks:
            tokens, state = encoder.step(chunk, state)
            expected.append(embedder.soft(tokens))
        state = encoder.init_state(3)
        with pytest.raises(ValueError, match="step each stream twice before"):
            EncoderSteps(encoder, embedder, copy.deepcopy(state))
        for chunk in chunks[:2]:
            _, state = encoder.step(chunk, state)
        steps = EncoderSteps(encoder, embedder, state)
        for chunk, tokens in zip(chunks[2:], expected[2:], strict=True):
            assert torch.allclose(steps.step(chunk), tokens, atol=1e-6)


def test_nothing_is_recorded_on_the_cpu(caplog):
    def work() -> None: ...

    assert record(work, torch.device("cpu")) is work
    assert not caplog.records
