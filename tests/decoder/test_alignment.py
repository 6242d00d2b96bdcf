"""Where heads look, against transformers' own attention; and that nothing else changes."""

from dataclasses import replace

import pytest
import torch

from dragoman.decoder import Slice
from dragoman.decoder.alignment import full_heads, present
from dragoman.decoder.batching import together
from dragoman.decoder.packed import Request
from dragoman.decoder.slices import plan
from tests.decoder.helpers import ALIKE, CONFIG

ALL = tuple((layer, head) for layer in range(10) for head in range(4))
KEPT = 9  # positions that the cache holds, more than a sliding window


@pytest.fixture
def theirs_eager(theirs):
    theirs.set_attn_implementation("eager")
    yield theirs
    theirs.set_attn_implementation("sdpa")


def filled(model, ids, size=None):
    cache = model.new_cache(size=size)
    model.extend(model.embed(ids[None, :KEPT]), ids[None, :KEPT], cache)
    return cache


def request(model, cache, ids, wanted, heads=ALL):
    new = ids[None, cache.length :]
    return Request(cache, new, model.embed(new), wanted, heads)


@pytest.mark.parametrize("wanted", [1, 5, 16])
def test_heads_see_what_transformers_says(model, theirs_eager, ids, wanted):
    with torch.no_grad():
        expected = theirs_eager(input_ids=ids[:1], output_attentions=True).attentions
    (seen,) = model.watch([request(model, filled(model, ids[0]), ids[0], wanted)])
    assert seen.shape == (len(ALL), wanted, ids.shape[1])
    for (layer, head), found in zip(ALL, seen, strict=True):
        truth = expected[layer][0, head, -wanted:]
        torch.testing.assert_close(found, truth, **ALIKE)


def test_in_company_each_sees_what_it_sees_alone(model, ids):
    caches = [filled(model, row) for row in ids]
    asked = [
        request(model, cache, row, n)
        for cache, row, n in zip(caches, (ids[0], ids[1, :-4]), (3, 7), strict=True)
    ]
    alone = [model.watch([one])[0] for one in asked]
    for mine, company in zip(alone, model.watch(asked), strict=True):
        torch.testing.assert_close(company, mine)
    assert [cache.length for cache in caches] == [KEPT, KEPT]


def test_answers_are_to_the_bit_what_they_are_for_those_who_never_watch(model, ids):
    def decoding(cache, row, watches):
        if watches:
            yield request(model, cache, row, 4)
        one = replace(request(model, cache, row, 2), heads=())
        first = yield one
        if watches:
            shorter = Request(cache, row[None, -2:], model.embed(row[None, -2:]), 1, ((2, 0),))
            yield shorter
        last = yield Request(cache, row[None, -2:], model.embed(row[None, -2:]), 1)
        return torch.cat((first, last))

    found = [
        together(model, [decoding(filled(model, row), row, watches) for row in ids])
        for watches in (False, True)
    ]
    for without, watching in zip(*found, strict=True):
        assert torch.equal(without, watching)


def test_the_pass_ends_at_the_highest_head(model, ids, lengths):
    model.watch([request(model, filled(model, ids[0]), ids[0], 2, ((1, 0), (6, 3)))])
    assert {layer for layer, length in lengths.items() if length == ids.shape[1] - KEPT} == set(
        range(7)
    )


def test_a_head_of_a_layer_that_is_left_out_is_not_asked():
    size = Slice(tuple(i for i in range(10) if i != 6), (64,) * 9)
    small = plan(CONFIG, size)
    assert present(((6, 1), (2, 3)), small, CONFIG) == ((2, 3),)
    assert present(((6, 1),), small, CONFIG) == full_heads(CONFIG)
    assert present((), small, CONFIG) == tuple((i, head) for i in (4, 9) for head in range(4))
