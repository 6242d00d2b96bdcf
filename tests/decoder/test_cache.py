"""Prefill, extension, steps and verification against whole sequences and transformers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.decoder.helpers import ALIKE, SAME


@pytest.fixture(scope="module")
def whole(model, ids):
    with torch.no_grad():
        return model(model.embed(ids), ids)


def test_prompt_steps_and_truncation_agree_with_transformers(model, theirs, ids):
    with torch.no_grad():
        expected = theirs(input_ids=ids).logits
    cache = model.new_cache(batch=2, capacity=4)
    logits = model.prefill(model.embed(ids[:, :10]), ids[:, :10], cache)
    torch.testing.assert_close(logits, expected[:, 9], **ALIKE)
    for t in range(10, 20):
        torch.testing.assert_close(model.step(ids[:, t], cache), expected[:, t], **ALIKE)
    cache.truncate(3)
    other = ids.flip(0)[:, :15]
    joined = torch.cat((ids[:, :3], other), dim=1)
    with torch.no_grad():
        expected = theirs(input_ids=joined).logits
    torch.testing.assert_close(model.verify(other, cache), expected[:, 3:], **ALIKE)
    assert cache.length == 18


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.sets(st.integers(1, 24)), kinds=st.lists(st.integers(0, 2), min_size=25, max_size=25)
)
def test_any_split_into_extend_prefill_and_verify_agrees(model, ids, whole, cuts, kinds):
    cache = model.new_cache(batch=2, capacity=1)
    edges = [0, *sorted(cuts), 25]
    for start, end, kind in zip(edges, edges[1:], kinds, strict=False):
        piece = ids[:, start:end]
        if kind == 0:
            model.extend(model.embed(piece), piece, cache)
        elif kind == 1:
            logits = model.prefill(model.embed(piece), piece, cache)
            torch.testing.assert_close(logits, whole[:, end - 1], **SAME)
        else:
            torch.testing.assert_close(model.verify(piece, cache), whole[:, start:end], **SAME)
        assert cache.length == end


@pytest.mark.parametrize("size", [1, 3, 7, 25])
def test_pieces_of_one_size_agree_with_the_whole(model, ids, whole, size):
    cache = model.new_cache(batch=2, capacity=1)
    for start in range(0, 25, size):
        piece = ids[:, start : start + size]
        found = model.verify(piece, cache)
        torch.testing.assert_close(found, whole[:, start : start + size], **SAME)


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 24), st.integers(1, 9)), max_size=8))
def test_what_is_rolled_back_and_read_again_agrees(model, ids, whole, steps):
    """Positions of the layers that read another's keys are those of the cache, not of the pass."""
    cache = model.new_cache(batch=2, capacity=1)
    other = ids.flip(1)
    for back, count in steps:
        cache.truncate(min(back, cache.length))
        start, stop = cache.length, min(cache.length + count, 25)
        if start == stop:
            continue
        found = model.verify(ids[:, start:stop], cache)
        torch.testing.assert_close(found, whole[:, start:stop], **SAME)
        model.verify(other[:, : 25 - stop + 1], cache)  # what is guessed wrongly
        cache.truncate(stop)


def test_positions_nobody_asks_for_do_not_run_the_shared_layers(model, ids, lengths):
    cache = model.new_cache(batch=2)
    model.prefill(model.embed(ids), ids, cache)
    assert lengths == {0: 25, 1: 25, 2: 25, 3: 25} | dict.fromkeys(range(4, 10), 1)
    lengths.clear()
    model.extend(model.embed(ids), ids, cache)
    assert lengths == dict.fromkeys(range(4), 25)


def test_buffers_are_those_of_the_owners_and_double(model, ids):
    cache = model.new_cache(batch=2, capacity=8)
    per_position = 5 * 2 * (2 * 2 * 8) * 8  # owners, k and v, rows x heads x width, bytes
    assert cache.nbytes == 8 * per_position
    model.extend(model.embed(ids[:, :9]), ids[:, :9], cache)
    assert (cache.length, cache.capacity) == (9, 16)
    assert cache.nbytes == 16 * per_position
    cache.truncate(0)
    model.extend(model.embed(ids), ids, cache)
    assert cache.capacity == 32


def test_a_copy_goes_its_own_way(model, ids):
    """Two answers behind one prompt, each as if the prompt had been read for it."""
    prompt, tails = ids[:, :9], (ids[:, 9:12], ids[:, 12:17])
    shared = model.new_cache(batch=2, capacity=9)
    model.extend(model.embed(prompt), prompt, shared)
    copies = [shared.copy(capacity) for capacity in (4, 64)]
    assert [copy.capacity for copy in copies] == [9, 64]
    for copy, tail in zip(copies, tails, strict=True):
        whole = model.new_cache(batch=2)
        model.extend(model.embed(prompt), prompt, whole)
        torch.testing.assert_close(model.verify(tail, copy), model.verify(tail, whole))
        assert copy.length == 9 + tail.shape[1]
    assert shared.length == 9 and model.new_cache(1, 8).copy().length == 0


def test_the_context_is_a_limit(model, ids):
    cache = model.new_cache(batch=2, capacity=500)
    piece = ids.repeat(1, 20)
    model.extend(model.embed(piece), piece, cache)
    with pytest.raises(
        ValueError, match="500 cached and 25 new positions exceed the context of 512"
    ):
        model.verify(ids, cache)
    assert cache.length == 500
    model.verify(ids[:, :12], cache)
    assert cache.capacity == 512


def test_impossible_requests_are_refused(model, ids):
    cache = model.new_cache(batch=1)
    with pytest.raises(ValueError, match="2 rows for a cache of 1"):
        model.verify(ids, cache)
    with pytest.raises(ValueError, match="cannot truncate"):
        cache.truncate(1)
    with pytest.raises(ValueError, match="capacity"):
        model.new_cache(capacity=513)
    with pytest.raises(ValueError, match="batch"):
        model.new_cache(batch=0)
