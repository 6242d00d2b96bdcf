"""Recorded passes and steps compute what the models' own do; here the same functions run without
a recording.
"""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from dragoman.decoder import KVCache, LanguageModel, Slice
from dragoman.decoder.packed import Request
from dragoman.decoder.quantize import Scheme
from dragoman.encoders import LogMel, StreamingAudioEncoder, split_state, stack_states
from dragoman.kernels import graphed, slots
from dragoman.kernels.graph_passes import kind_of
from dragoman.models.checkpoint import Checkpoint
from tests.encoders.helpers import sound

CHUNK = 2_560


@pytest.fixture(scope="module")
def checkpoint(tiny_folder) -> Checkpoint:
    return replace(Checkpoint.open(str(tiny_folder)), quick=False)


@pytest.fixture
def models(checkpoint) -> tuple[LanguageModel, LanguageModel]:
    """As it is defined, and with recordings."""
    return defined(checkpoint), recorded(checkpoint)


def defined(checkpoint: Checkpoint, scheme: Scheme | None = None) -> LanguageModel:
    return checkpoint.language_model(torch.float32, scheme=scheme)


def recorded(checkpoint: Checkpoint, scheme: Scheme | None = None) -> LanguageModel:
    model = defined(checkpoint, scheme)
    graphed.replace(model)
    return model


def drawn(length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(5, 400, (1, length), generator=torch.Generator().manual_seed(seed))


def used(model: LanguageModel) -> int:
    """How many kinds of recorded passes ran."""
    assert isinstance(model, graphed.GraphedLanguageModel)
    return len(model.recorded)


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert torch.allclose(found, expected, atol=2e-5), (found - expected).abs().max()


@pytest.mark.parametrize("width", [None, 32])
def test_a_session_gets_the_same_logits(models, width):
    """Prompt, steps, a draft after a rollback: beyond the sliding layers' window, at two sizes."""
    layers = models[0].config.num_hidden_layers
    size = None if width is None else Slice(tuple(range(layers)), (width,) * layers)
    found = []
    for model in models:
        ids, cache, mine = drawn(40), model.new_cache(size=size), list[torch.Tensor]()
        assert ids.shape[1] > model.config.sliding_window
        mine.append(model.prefill(model.embed(ids[:, :21]), ids[:, :21], cache))
        mine += [model.step(token, cache) for token in ids[:, 21:].unbind(1)]
        cache.truncate(19)
        mine.append(model.verify(ids[:, 19:30], cache)[0])
        model.extend(model.embed(ids[:, :3]), ids[:, :3], cache)
        assert cache.length == 33
        mine.append(model.answer(model.embed(ids), ids, cache, 5)[0])
        found.append(torch.cat(mine))
    assert_near(found[1], found[0])
    assert used(models[1]) == 5


def test_sequences_of_any_lengths_share_a_pass(models):
    found = []
    for model in models:
        caches, mine = [model.new_cache() for _ in range(3)], list[torch.Tensor]()
        for wanted in (3, 1, 0):
            requests = []
            for seed, (cache, length) in enumerate(zip(caches, (9, 4, 1), strict=True)):
                ids = drawn(length, seed + 10 * wanted)
                most = min(wanted, length)
                requests.append(Request(cache, ids, model.embed(ids), most))
            logits = model.answer_together(requests)
            assert [len(one) for one in logits] == [min(wanted, n) for n in (9, 4, 1)]
            mine += logits
        assert [cache.length for cache in caches] == [27, 12, 3]
        found.append(torch.cat(mine))
    assert_near(found[1], found[0])
    assert used(models[1]) == 3


def test_soft_tokens_read_the_first_row_of_the_table(models):
    """Ids beyond the per-layer table, and negative ones."""
    ids = torch.tensor([[7, models[0].config.vocab_size_per_layer_input + 1, -1, 9]])
    embeddings = torch.randn(1, 4, models[0].config.hidden_size, generator=torch.manual_seed(1))
    found = [model.answer(embeddings, ids, model.new_cache(), 4) for model in models]
    assert_near(found[1], found[0])


def test_a_cache_that_outgrows_its_slot_goes_on_alone(models, monkeypatch):
    monkeypatch.setattr(slots, "CAPACITY", 256)
    ids, found = drawn(300), []
    for model in models:
        cache = model.new_cache()
        first = model.prefill(model.embed(ids[:, :250]), ids[:, :250], cache)
        then = model.verify(ids[:, 250:], cache)[0]
        found.append(torch.cat([first, then]))
    assert_near(found[1], found[0])
    assert cache.slot is None and cache.capacity >= 300
    assert models[1].new_cache().slot == 1  # which it has left


def test_slots_are_given_back_and_copies_have_their_own(models):
    _, model = models
    first, second = model.new_cache(), model.new_cache()
    ids = drawn(6)
    model.extend(model.embed(ids), ids, first)
    third, fourth = first.copy(), copy.deepcopy(first)
    assert len({cache.slot for cache in (first, second, third, fourth)} - {0, None}) == 4
    expected = model.step(torch.tensor([8]), first)
    for cache in (third, fourth):
        assert_near(model.step(torch.tensor([8]), cache), expected)
    gone = second.slot
    del second
    assert model.new_cache().slot == gone


def test_a_slot_keeps_nothing_of_the_session_that_had_it(models):
    """Also not what is no number: masked, it would still be multiplied, by nought."""
    plain, model = models
    ids, cache = drawn(9), model.new_cache()
    broken = torch.full_like(model.embed(ids), torch.nan)
    assert model.answer(broken, ids, cache, 1).isnan().all()
    slot = cache.slot
    del cache
    cache = model.new_cache()
    assert cache.slot == slot
    expected = plain.prefill(plain.embed(ids[:, :3]), ids[:, :3], plain.new_cache())
    assert_near(model.prefill(model.embed(ids[:, :3]), ids[:, :3], cache), expected)


def test_all_passes_leave_their_logits_in_the_same_memory(models):
    """Theirs alone would be a gigabyte of a true-size model, over all kinds."""
    _, model = models
    cache, places = model.new_cache(), list[int]()
    for wanted in (8, 4, 1, 2):
        ids = drawn(wanted)
        requests = [Request(cache, ids, model.embed(ids), wanted)]
        kind = kind_of(requests)
        model.answer_together(requests)
        made = model.recorded.get(kind, lambda: pytest.fail("was not recorded"))
        places.append(made.logits.data_ptr())
    assert used(model) == 4 and len(set(places)) == 1


def test_without_a_free_slot_the_model_runs_as_defined(models, monkeypatch):
    monkeypatch.setattr(slots, "MOST", 1)
    plain, model = models
    ids, caches = drawn(6), [model.new_cache() for _ in range(2)]
    assert [cache.slot for cache in caches] == [1, None]
    expected = plain.answer(plain.embed(ids), ids, plain.new_cache(), 2)
    for cache in caches:
        assert_near(model.answer(model.embed(ids), ids, cache, 2), expected)
    assert used(model) == 1


def test_what_a_model_refuses_is_refused(models):
    _, model = models
    cache, ids = model.new_cache(), drawn(2)
    request = Request(cache, ids, model.embed(ids), 1)
    with pytest.raises(ValueError, match="came twice in one pass"):
        model.answer_together([request, request])
    with pytest.raises(ValueError, match="exceed the context"):
        long = drawn(model.config.max_position_embeddings + 1)
        model.answer(model.embed(long), long, cache, 1)
    other = KVCache(model.config, 2, 8, model.dtype, model.device)
    with pytest.raises(ValueError, match="got 1 rows for a cache of 2"):
        model.answer(model.embed(ids), ids, other, 1)


@pytest.mark.parametrize("form", ["int8", "int4", "bf12"])
def test_quantized_weights_answer_as_they_do(checkpoint, form):
    scheme = Scheme(form, form)
    ids, found = drawn(9), []
    for model in (defined(checkpoint, scheme), recorded(checkpoint, scheme)):
        found.append(model.answer(model.embed(ids), ids, model.new_cache(), 3))
    assert_near(found[1], found[0])


def test_streams_step_as_they_do(checkpoint):
    """Three streams, then two of them, in steps of one and of two chunks."""
    found = []
    for quick in (False, True):
        encoder = StreamingAudioEncoder(LogMel(), checkpoint.audio_encoder(torch.float32))
        if quick:
            graphed.replace(encoder)
        samples, mine = sound(3, 9 * CHUNK, 5), list[torch.Tensor]()
        with torch.inference_mode():
            state, place = encoder.init_state(3), 0
            for number, chunks in enumerate((1, 1, 1, 2, 1, 2)):
                if number == 3:
                    state = stack_states(split_state(state)[:2])
                rows = 3 if number < 3 else 2
                piece = samples[:rows, CHUNK * place : CHUNK * (place + chunks)]
                tokens, state = encoder.step(piece, state)
                mine.append(tokens.flatten(0, 1))
                place += chunks
        found.append(torch.cat(mine))
    assert_near(found[1], found[0])


def test_a_step_may_come_outside_the_mode_in_which_its_kind_came_first(checkpoint):
    encoder = StreamingAudioEncoder(LogMel(), checkpoint.audio_encoder(torch.float32))
    graphed.replace(encoder)
    samples, found = sound(1, CHUNK, 5), list[torch.Tensor]()
    for mode in (torch.inference_mode(), torch.no_grad()):
        with mode:
            found.append(encoder.step(samples, encoder.init_state(1))[0])
    assert torch.equal(found[0], found[1])


def test_threads_take_turns(checkpoint):
    """Two sessions that step at the same time get what each gets alone."""
    model = recorded(checkpoint)

    def said(seed: int) -> torch.Tensor:
        ids, cache = drawn(24, seed), model.new_cache()
        with torch.inference_mode():
            steps = [model.step(token, cache) for token in ids.unbind(1)]
        return torch.cat(steps)

    alone = [said(seed) for seed in (1, 2)]
    with ThreadPoolExecutor(2) as threads:
        for _ in range(5):
            both = [*threads.map(said, (1, 2))]
            assert all(torch.equal(found, of) for found, of in zip(both, alone, strict=True))
