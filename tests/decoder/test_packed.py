"""Many sequences in one pass, against each of them alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dragoman.decoder import LanguageModel, Slice
from dragoman.decoder.cache import KVCache
from dragoman.decoder.packed import Request
from tests.decoder.helpers import CONFIG, SAME

LENGTH = 24
SEQUENCES = 5


@pytest.fixture(scope="module")
def sequences() -> Tensor:
    """Ids [SEQUENCES, LENGTH], some of them beyond the per-layer table."""
    ids = torch.randint(0, 200, (SEQUENCES, LENGTH), generator=torch.Generator().manual_seed(3))
    assert (ids >= CONFIG.vocab_size_per_layer_input).any()
    return ids


@pytest.fixture(scope="module")
def whole(model, sequences) -> Tensor:
    with torch.no_grad():
        return model(model.embed(sequences), sequences)


def request(model: LanguageModel, cache: KVCache, ids: Tensor, wanted: int) -> Request:
    return Request(cache, ids[None], model.embed(ids[None]), wanted)


# For each pass, which sequences take part, with how many new positions and how many answers.
PASSES = st.lists(
    st.dictionaries(
        st.integers(0, SEQUENCES - 1), st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(passes=PASSES)
def test_any_company_gives_each_the_answers_of_the_whole_sequence(model, sequences, whole, passes):
    """They join and leave at any time, extend, ask for the last answer, or for all."""
    caches = [model.new_cache(capacity=1) for _ in range(SEQUENCES)]
    for company in passes:
        asked, expected = [], []
        for n, (count, wanted) in company.items():
            start, end = caches[n].length, min(caches[n].length + count, LENGTH)
            if start == end:
                continue
            wanted = min(wanted, end - start)
            asked.append(request(model, caches[n], sequences[n, start:end], wanted))
            expected.append(whole[n, end - wanted : end])
        if asked:
            for logits, truth in zip(model.answer_together(asked), expected, strict=True):
                torch.testing.assert_close(logits, truth, **SAME)
    for cache in caches:
        assert cache.length <= LENGTH


def test_the_keys_and_values_are_those_of_each_alone(model, sequences):
    alone = [model.new_cache() for _ in range(3)]
    packed = [model.new_cache() for _ in range(3)]
    counts = (7, 1, 12)
    for cache, ids, count in zip(alone, sequences, counts, strict=False):
        model.extend(model.embed(ids[None, :count]), ids[None, :count], cache)
    model.answer_together(
        [
            request(model, cache, ids[:count], 0)
            for cache, ids, count in zip(packed, sequences, counts, strict=False)
        ]
    )
    for mine, theirs, count in zip(packed, alone, counts, strict=True):
        assert mine.length == theirs.length == count
        for layer in theirs.plan.owners:
            for buffers in ("_keys", "_values"):
                torch.testing.assert_close(
                    getattr(mine, buffers)[layer][:, :, :count],
                    getattr(theirs, buffers)[layer][:, :, :count],
                    **SAME,
                )


def test_a_neighbours_numbers_change_nothing(model, sequences):
    """Not by a bit: what differs between companies is the shape of the products, not the sum."""

    def first_of(neighbour: Tensor) -> Tensor:
        pair = [model.new_cache(), model.new_cache()]
        asked = [
            request(model, pair[0], sequences[0], LENGTH),
            Request(pair[1], sequences[1:2], neighbour, 3),
        ]
        return model.answer_together(asked)[0]

    quiet = model.embed(sequences[1:2])
    assert torch.equal(first_of(quiet), first_of(100 * quiet.flip(1)))


def test_a_slice_of_the_model_is_packed_too(model, sequences):
    size = Slice.cut(CONFIG, widths=20, skip=(6,))
    with torch.no_grad():
        expected = model(model.embed(sequences[:2]), sequences[:2], size=size)
    caches = [model.new_cache(size=size) for _ in range(2)]
    first = [request(model, caches[n], sequences[n, : 5 + n], 1) for n in range(2)]
    second = [request(model, caches[n], sequences[n, 5 + n :], 2) for n in range(2)]
    for n, logits in enumerate(model.answer_together(first)):
        torch.testing.assert_close(logits[0], expected[n, 4 + n], **SAME)
    for n, logits in enumerate(model.answer_together(second)):
        torch.testing.assert_close(logits, expected[n, -2:], **SAME)


def test_shared_layers_run_for_the_positions_that_anybody_asked_for(model, sequences, lengths):
    wanted = (0, 1, 4)
    model.answer_together(
        [request(model, model.new_cache(), sequences[n, :10], k) for n, k in enumerate(wanted)]
    )
    assert lengths == dict.fromkeys(range(4), 30) | dict.fromkeys(range(4, 10), 5)
    lengths.clear()
    model.answer_together([request(model, model.new_cache(), sequences[n], 0) for n in range(2)])
    assert lengths == dict.fromkeys(range(4), 2 * LENGTH)


def test_one_alone_is_a_company_too(model, sequences, whole):
    (logits,) = model.answer_together([request(model, model.new_cache(), sequences[0], LENGTH)])
    torch.testing.assert_close(logits, whole[0], **SAME)


def test_a_request_that_cannot_be_met_changes_nothing(model, sequences):
    good, full = model.new_cache(), model.new_cache()
    for _ in range(21):
        model.extend(model.embed(sequences[:1]), sequences[:1], full)
    asked = [request(model, cache, sequences[0], 1) for cache in (good, full)]
    with pytest.raises(ValueError, match="504 cached and 24 new positions exceed the context"):
        model.answer_together(asked)
    assert (good.length, full.length) == (0, 504)
    assert len(model.answer_together(asked[:1])) == 1


def test_requests_that_make_no_sense_are_refused(model, sequences):
    cache = model.new_cache()
    twice = [request(model, cache, sequences[n], 1) for n in range(2)]
    with pytest.raises(ValueError, match="came twice"):
        model.answer_together(twice)
    other = model.new_cache(size=Slice.cut(CONFIG, widths=20))
    with pytest.raises(ValueError, match="several sizes"):
        model.answer_together([twice[0], request(model, other, sequences[1], 1)])
    with pytest.raises(ValueError, match="1 rows for a cache of 2"):
        model.answer_together([request(model, model.new_cache(batch=2), sequences[0], 1)])
    assert cache.length == other.length == 0
