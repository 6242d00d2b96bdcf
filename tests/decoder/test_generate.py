"""Drafts change the cost of greedy decoding, never its result."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.decoder import greedy
from dragoman.decoder.generate import ROWS, choices

PROMPT = list(range(20, 31))
TOKENS = st.integers(0, 199)


def prefilled(model, prompt=PROMPT):
    cache = model.new_cache(capacity=16)
    ids = torch.tensor([prompt])
    return cache, model.prefill(model.embed(ids), ids, cache)


def plain(model, prompt, max_tokens, stop_ids=(), suppress=None):
    """Greedy decoding without any cache: the whole sequence again for every token."""
    tokens = []
    while len(tokens) < max_tokens:
        ids = torch.tensor([[*prompt, *tokens]])
        with torch.no_grad():
            logits = model(model.embed(ids), ids)[0, -1]
        if suppress is not None:
            logits = logits.masked_fill(suppress, float("-inf"))
        token = int(logits.argmax())
        if token in stop_ids:
            break
        tokens.append(token)
    return tokens


@pytest.fixture(scope="module")
def answer(model):
    """The first 12 tokens that follow PROMPT; distinct enough to be worth drafting."""
    tokens = plain(model, PROMPT, 12)
    assert len(set(tokens)) > 3
    return tokens


def test_plain_greedy_and_transformers_agree(model, theirs, answer):
    ids = torch.tensor([PROMPT])
    theirs.generation_config.eos_token_id = None
    generated = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12
    )
    assert generated[0, len(PROMPT) :].tolist() == answer
    result = greedy(model, *prefilled(model), max_tokens=12, stop_ids=())
    assert list(result.tokens) == answer
    assert (result.stopped, result.drafted, result.accepted, result.passes) == (False, 0, 0, 11)


def test_true_draft_takes_one_pass(model, answer):
    result = greedy(model, *prefilled(model), max_tokens=12, stop_ids=(), draft=answer)
    assert list(result.tokens) == answer
    assert (result.accepted, result.passes) == (12, 1)


def test_draft_wrong_from_the_start_takes_no_extra_pass(model, answer):
    draft = [answer[0] + 1, *answer[1:]]
    result = greedy(model, *prefilled(model), max_tokens=12, stop_ids=(), draft=draft)
    assert list(result.tokens) == answer
    assert (result.drafted, result.accepted, result.passes) == (12, 0, 11)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_draft_and_forced_prefix_give_the_plain_answer(model, answer, data):
    max_tokens = data.draw(st.integers(0, 12))
    forced = data.draw(st.lists(TOKENS, max_size=min(3, max_tokens)))
    expected = forced + plain(model, PROMPT + forced, max_tokens - len(forced))
    good = data.draw(st.integers(0, 12))
    draft = expected[len(forced) :][:good] + data.draw(st.lists(TOKENS, max_size=4))
    stop_ids = set(data.draw(st.lists(st.sampled_from(answer), max_size=2))) - set(forced)
    stop = next((i for i, t in enumerate(expected) if t in stop_ids), None)
    cache, logits = prefilled(model)
    result = greedy(model, cache, logits, max_tokens, stop_ids, forced=forced, draft=draft)
    assert list(result.tokens) == expected[:stop]
    assert result.stopped == (stop is not None)
    assert result.accepted <= result.drafted == len(draft)
    assert result.accepted >= min(good, len(result.tokens) - len(forced))
    # The cache can be cut back to the prompt and asked again.
    assert cache.length <= len(PROMPT) + len(result.tokens)
    cache.truncate(len(PROMPT))
    assert greedy(model, cache, logits, max_tokens, stop_ids, forced=forced).tokens == result.tokens


def test_suppressed_ids_are_never_chosen(model, answer):
    suppress = torch.zeros(200, dtype=torch.bool)
    suppress[answer[:2]] = True
    expected = plain(model, PROMPT, 8, suppress=suppress)
    for draft in ([], answer, expected):
        result = greedy(
            model, *prefilled(model), max_tokens=8, stop_ids=(), draft=draft, suppress=suppress
        )
        assert list(result.tokens) == expected
    assert set(expected).isdisjoint(answer[:2])


@pytest.mark.parametrize("rows", [0, 1, ROWS, 3 * ROWS + 1])
def test_the_choices_of_many_rows_are_those_of_each(rows):
    logits = torch.randn(rows, 50, generator=torch.Generator().manual_seed(rows)).round()
    suppress = torch.arange(50) >= 40
    assert choices(logits, None) == logits.argmax(-1).tolist()
    assert choices(logits, suppress) == logits[:, :40].argmax(-1).tolist()


def test_ties_go_to_the_lowest_id(model):
    cache, logits = prefilled(model)
    result = greedy(model, cache, torch.zeros_like(logits), 1, stop_ids=())
    assert result.tokens == (0,) and result.passes == 0


def test_prefill_that_skips_gives_the_text_of_one_that_does_not(model, answer):
    ids = torch.tensor([PROMPT])
    cache = model.new_cache()
    logits = model.verify(ids, cache)[:, -1]  # every position through every layer
    assert list(greedy(model, cache, logits, 12, stop_ids=()).tokens) == answer


def test_impossible_requests_are_refused(model):
    cache, logits = prefilled(model)
    with pytest.raises(ValueError, match="at most max_tokens"):
        greedy(model, cache, logits, 1, stop_ids=(), forced=(1, 2))
    with pytest.raises(ValueError, match="no stop id"):
        greedy(model, cache, logits, 9, stop_ids=(2,), forced=(1, 2))
    with pytest.raises(ValueError, match="one row"):
        greedy(model, model.new_cache(batch=2), logits, 9, stop_ids=())
