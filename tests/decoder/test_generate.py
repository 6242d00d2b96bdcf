"""Greedy decoding in its plainest form, which others are compared with; and transformers' own."""

import pytest
import torch
from hypothesis import strategies as st

from dragoman.decoder.speculation import ROWS, choices

PROMPT = list(range(20, 31))
TOKENS = st.integers(0, 199)


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


def stepwise(model, prompt, max_tokens, size=None):
    """The same from a cache, one id a pass."""
    cache, ids, tokens = model.new_cache(size=size), torch.tensor([prompt]), []
    logits = model.prefill(model.embed(ids), ids, cache)
    while len(tokens) < max_tokens:
        tokens.append(int(logits.argmax()))
        logits = model.step(torch.tensor(tokens[-1:]), cache)
    return tokens


@pytest.fixture(scope="module")
def answer(model):
    """The first 12 tokens that follow PROMPT; distinct enough to be worth drafting."""
    tokens = plain(model, PROMPT, 12)
    assert len(set(tokens)) > 3
    return tokens


def test_whole_sequences_steps_and_transformers_agree(model, theirs, answer):
    ids = torch.tensor([PROMPT])
    theirs.generation_config.eos_token_id = None
    generated = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12
    )
    assert generated[0, len(PROMPT) :].tolist() == answer
    assert stepwise(model, PROMPT, 12) == answer


@pytest.mark.parametrize("rows", [0, 1, ROWS, 3 * ROWS + 1])
def test_the_choices_of_many_rows_are_those_of_each(rows):
    logits = torch.randn(rows, 50, generator=torch.Generator().manual_seed(rows)).round()
    suppress = torch.arange(50) >= 40
    assert choices(logits, None) == logits.argmax(-1).tolist()
    assert choices(logits, suppress) == logits[:, :40].argmax(-1).tolist()


def test_ties_go_to_the_lowest_id():
    assert choices(torch.zeros(2, 9), None) == [0, 0]
