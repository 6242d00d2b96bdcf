"""Heads that are shown where each word was said."""

import random
from dataclasses import replace

import pytest
import torch

from dragoman.decoder.layers import Attention, DecoderLayer
from tests import nano_like
from tests.encoders.helpers import sound
from training.batch import CHUNK_SAMPLES, Batcher, Spoken
from training.guide import scores
from training.model import Nano, guided_heads


@pytest.fixture
def model(tokenizer) -> Nano:
    torch.manual_seed(0)
    return nano_like.module(tokenizer)


def attention_of(model: Nano, number: int) -> Attention:
    layer = model.language_model.layers[number]
    assert isinstance(layer, DecoderLayer)
    return layer.self_attn


def spoken(chunks: int = 12) -> Spoken:
    samples = sound(1, chunks * CHUNK_SAMPLES, 5)[0]
    ends = [3 * CHUNK_SAMPLES, 9 * CHUNK_SAMPLES, 11 * CHUNK_SAMPLES]
    return Spoken(samples, ["El", "perro", "duerme."], ends, "es", "en", "The dog sleeps.")


def test_the_guided_heads_see_the_whole_context(model):
    config = model.language_model.config
    assert guided_heads(config) == [(2, 0), (2, 1), (5, 0)]
    assert not any(model.language_model.layers[layer].sliding for layer, _ in guided_heads(config))


def test_the_scores_are_those_that_the_attention_mixes_by(model, batcher):
    found = []

    def watch(attention, inputs, output):
        x, view, keys, values = inputs
        shares = scores(attention, range(2), x, view, keys).exp()
        mixed = (shares @ values.expand(-1, 2, -1, -1)).transpose(1, 2).flatten(2)
        found.append((attention.o_proj(mixed), output))

    for number in (2, 5):
        attention_of(model, number).register_forward_hook(watch)
    with torch.no_grad():
        model.losses(batcher([spoken(), spoken(9)], random.Random(0)))
    assert len(found) == 2
    for expected, output in found:
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


def test_each_token_has_its_place(batcher, tokenizer):
    batch = batcher([spoken()], random.Random(0))
    places = batch.places[0].tolist()
    said = tokenizer.encode("El perro duerme.")
    pieces = [tokenizer.piece(token) for token in said]
    assert all(place == [-1, -1] for place in places[len(said) :])
    places = places[: len(said)]
    assert all(0 <= first <= last < int(batch.tokens[0]) for first, last in places)
    assert places == sorted(places)
    first, last = places[0]
    assert first >= 1 and last <= 6, "a word is not longer than its letters"
    assert places[-1][1] >= 11, pieces


def test_what_was_not_heard_has_no_place(tokenizer):
    batcher = Batcher(tokenizer, cut_share=1.0)
    for seed in range(30):
        batch = batcher([spoken()], random.Random(seed))
        assert batch.places is not None and int(batch.places.max()) < int(batch.tokens[0])
    silent = replace(spoken(), words=[], word_ends=[], expected=False)
    assert (batcher([silent], random.Random(0)).places == -1).all()


def test_heads_learn_to_look_there(model, batcher):
    batch = batcher([spoken()], random.Random(0))
    optimizer = torch.optim.Adam(model.language_model.parameters(), lr=3e-3)
    with torch.no_grad():
        before = model.losses(batch).placed.item()
    for _ in range(25):
        losses = model.losses(batch)
        losses.placed.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses.placed.item() < 0.5 * before


def test_watching_changes_no_loss(model, batcher):
    batch = batcher([spoken()], random.Random(0))
    with torch.no_grad():
        watched, alone = model.losses(batch), model.losses(replace(batch, places=None))
    assert watched.answer == alone.answer and watched.placed > 0 == alone.placed
