"""Decodings side by side, against each of them alone."""

import pytest
import torch

from dragoman.decoder import LanguageModel, Slice
from dragoman.decoder.batching import Decoding, alone, together
from dragoman.decoder.cache import KVCache
from dragoman.decoder.packed import Request
from tests.decoder.helpers import CONFIG
from tests.decoder.test_generate import PROMPT, plain

PROMPTS = ([5, 6, 7], PROMPT, [9] * 8, [50, 3, 110, 42, 8])


def request(model: LanguageModel, cache: KVCache, ids: list[int], wanted: int = 1) -> Request:
    row = torch.tensor([ids])
    return Request(cache, row, model.embed(row), wanted)


def greedy(model, prompt: list[int], count: int, size=None) -> Decoding[list[int]]:
    """Puts the prompt into the cache, then asks for one id after another."""
    cache, said = model.new_cache(size=size), []
    yield request(model, cache, prompt[:-1], 0)
    following = prompt[-1]
    for _ in range(count):
        logits = yield request(model, cache, [following])
        following = int(logits[-1].argmax())
        said.append(following)
    return said


def failing(model, passes: int) -> Decoding[list[int]]:
    yield from greedy(model, PROMPT, passes)
    raise ArithmeticError("that was too much")


@pytest.fixture
def passes(model, monkeypatch) -> list[int]:
    """How many requests shared each pass."""
    sizes = []
    one, many = model.answer, model.answer_together

    def answer(*args):
        sizes.append(1)
        return one(*args)

    def answer_together(requests):
        sizes.append(len(requests))
        return many(requests)

    monkeypatch.setattr(model, "answer", answer)
    monkeypatch.setattr(model, "answer_together", answer_together)
    return sizes


def test_a_decoding_alone(model):
    assert alone(model, greedy(model, PROMPT, 6)) == plain(model, PROMPT, 6)


def test_decodings_of_different_lengths_share_their_passes(model, passes):
    counts = (6, 2, 4, 4)
    askings = [greedy(model, p, n) for p, n in zip(PROMPTS, counts, strict=True)]
    found = together(model, askings)
    assert passes == [4, 4, 4, 3, 3, 1, 1], "the prompts, then as many as have not ended"
    assert found == [plain(model, p, n) for p, n in zip(PROMPTS, counts, strict=True)]


def test_sizes_have_passes_of_their_own(model, passes):
    small = Slice.cut(CONFIG, widths=20)
    sizes = (None, small, None, small)
    found = together(model, [greedy(model, p, 3, s) for p, s in zip(PROMPTS, sizes, strict=True)])
    assert passes == [2, 2] * 4
    for prompt, size, ids in zip(PROMPTS, sizes, found, strict=True):
        assert ids == alone(model, greedy(model, prompt, 3, size))


def test_one_that_fails_fails_alone(model):
    found = together(model, [greedy(model, PROMPT, 5), failing(model, 2), greedy(model, [1, 2], 3)])
    assert found[0] == plain(model, PROMPT, 5) and found[2] == plain(model, [1, 2], 3)
    assert isinstance(found[1], ArithmeticError)
    with pytest.raises(ArithmeticError, match="too much"):
        alone(model, failing(model, 1))


def test_a_request_that_cannot_be_met_is_an_error_of_its_own(model):
    """Thrown where it was asked, so that a decoding can deal with it."""

    def too_long(catching: bool) -> Decoding[str]:
        cache = model.new_cache()
        try:
            yield request(model, cache, [3] * 513)
        except ValueError:
            if not catching:
                raise
        assert cache.length == 0
        yield request(model, cache, [3])
        return "dealt with"

    found = together(model, [too_long(False), greedy(model, PROMPT, 4), too_long(True)])
    assert isinstance(found[0], ValueError) and "exceed the context" in str(found[0])
    assert found[1:] == [plain(model, PROMPT, 4), "dealt with"]


def test_a_pass_that_fails_for_all_is_made_for_each(model, monkeypatch):
    def too_much(requests):
        raise MemoryError("too much at once")

    monkeypatch.setattr(model, "answer_together", too_much)
    found = together(model, [greedy(model, prompt, 4) for prompt in PROMPTS])
    assert found == [plain(model, prompt, 4) for prompt in PROMPTS]


def test_one_that_asks_nothing_and_none_at_all(model):
    def silent() -> Decoding[str]:
        return "nothing"
        yield

    assert together(model, [silent(), greedy(model, PROMPT, 2)])[0] == "nothing"
    assert together(model, []) == []
