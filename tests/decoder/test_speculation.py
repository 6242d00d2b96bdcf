"""What is guessed changes the number of passes, never what is said."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.decoder.batching import alone
from dragoman.decoder.speculation import Lookahead
from tests.decoder.helpers import SAME
from tests.decoder.test_generate import PROMPT, TOKENS, plain

SEPARATOR = [55, 66]


class Asked:
    """A lookahead whose questions are answered at once."""

    def __init__(self, model, *args) -> None:
        self._model, self._ahead = model, Lookahead(model, *args)

    @property
    def passes(self) -> int:
        return self._ahead.passes

    def after(self, *args, **kwargs) -> int:
        return alone(self._model, self._ahead.after(*args, **kwargs))

    def text(self, *args, **kwargs) -> list[int]:
        return alone(self._model, self._ahead.text(*args, **kwargs))

    def keep(self, count: int) -> None:
        alone(self._model, self._ahead.keep(count))

    def chances(self, *args) -> list[float | None]:
        return self._ahead.chances(*args)


def look(model, prompt=PROMPT, end=3, suppress=None, temperature=1.0) -> Asked:
    """Behind a prompt of which the last `end` ids are not in the cache yet."""
    cache, ids = model.new_cache(capacity=16), torch.tensor([prompt])
    model.extend(model.embed(ids[:, :-end]), ids[:, :-end], cache)
    return Asked(model, cache, model.embed(ids[:, -end:]), ids[:, -end:], suppress, temperature)


@pytest.fixture(scope="module")
def texts(model) -> tuple[list[int], list[int]]:
    """Two texts of eight ids, the second behind the first and a separator, decoded plainly."""
    first = plain(model, PROMPT, 8)
    second = plain(model, [*PROMPT, *first, *SEPARATOR], 8)
    assert len(set(first)) > 3 and len(set(second)) > 3
    return first, second


def both(ahead, guesses, forced=((), ()), most=8, stop=()):
    """The two texts, as a caller asks for them."""
    (draft, old), beyond = guesses, [*SEPARATOR, *guesses[1]]
    first = ahead.text([], forced[0], [*draft[len(forced[0]) :], *beyond], most, stop)
    before = [*first, *SEPARATOR]
    return first, ahead.text(before, forced[1], old[len(forced[1]) :], most, stop)


def test_a_true_guess_of_both_texts_takes_one_pass(model, texts):
    ahead = look(model)
    assert both(ahead, texts) == texts
    assert ahead.passes == 1


def test_without_guesses_every_id_takes_a_pass(model, texts):
    ahead = look(model)
    assert both(ahead, ([], [])) == texts
    assert ahead.passes == 16


@pytest.mark.parametrize("place", range(8))
def test_decoding_resumes_at_the_first_mismatch(model, texts, place):
    first, second = texts
    wrong = [*first[:place], first[place] + 1, *first[place + 1 :]]
    ahead = look(model)
    assert both(ahead, (wrong, second)) == texts
    # One for what was right, one for each id after it; the second text goes along with the last.
    assert ahead.passes == 1 + (8 - place)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), end=st.integers(1, len(PROMPT) - 1))
def test_any_hypothesis_gives_the_answer_from_scratch(model, texts, data, end):
    """Old texts that are right for a while, or not at all; committed text the model rejects."""
    most = data.draw(st.integers(2, 8))
    stop = set(data.draw(st.lists(st.sampled_from(texts[0] + texts[1]), max_size=2)))
    expected, guesses, forced, before = [], [], [], PROMPT
    for _ in texts:
        strange = data.draw(st.lists(TOKENS.filter(lambda t: t not in stop), max_size=2))
        answer = strange + plain(model, before + strange, most - len(strange), stop)
        right = data.draw(st.integers(0, len(answer)))
        guesses.append(answer[:right] + data.draw(st.lists(TOKENS, max_size=3)))
        forced.append(strange)
        expected.append(answer)
        before = [*before, *answer, *SEPARATOR]
    ahead = look(model, end=end)
    assert both(ahead, guesses, forced, most, stop) == tuple(expected)
    assert ahead.passes <= 2 + sum(map(len, expected))


def test_the_cache_can_be_cut_back_and_asked_again(model, texts):
    cache, ids = model.new_cache(), torch.tensor([PROMPT])
    for guesses in (([], []), texts, texts[::-1]):
        assert both(Asked(model, cache, model.embed(ids), ids), guesses) == texts
        cache.truncate(0)


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("count", [0, 2, 3])
def test_what_is_kept_of_the_prompt_is_in_the_cache(model, asked, count):
    ahead = look(model, end=3)
    if asked:
        ahead.after([5], guess=[6, 7])
    ahead.keep(count)
    cache, rest = ahead._ahead._cache, torch.tensor([[*PROMPT[len(PROMPT) - 3 + count :], 9]])
    assert cache.length == len(PROMPT) - 3 + count
    found = int(model.verify(rest, cache)[0, -1].argmax())
    assert found == plain(model, [*PROMPT, 9], 1)[0]


def test_questions_may_come_in_any_order(model, texts):
    """Also behind ids that were given, where no choice was computed."""
    first, ahead = texts[0], look(model)
    for length in (5, 0, 8, 3, 3, 4, 0, 1):
        expected = [*first, *plain(model, [*PROMPT, *first], 1)][length]
        assert ahead.after(first[:length]) == expected
    for strange in ([7, 7], [7], [7, 8, 9], []):
        assert ahead.after(strange) == plain(model, [*PROMPT, *strange], 1)[0]


def test_logits_are_computed_where_a_choice_is_open(model, texts, monkeypatch):
    wanted = []
    answer = type(model).answer

    def spy(self, embeddings, ids, cache, count):
        if count:
            wanted.append((ids.shape[1], count))
        return answer(self, embeddings, ids, cache, count)

    monkeypatch.setattr(type(model), "answer", spy)
    (said, meant), ahead = texts, look(model, end=3)
    assert ahead.text([], said[:6], said[6:], 8, ()) == said
    assert ahead.text([*said, *SEPARATOR], meant[:3], meant[3:7], 8, ()) == meant
    assert wanted == [(3 + 8, 1 + 2), (2 + 7, 1 + 4)]


def test_suppressed_ids_are_never_chosen(model, texts):
    suppress = torch.zeros(200, dtype=torch.bool)
    suppress[texts[0][:2]] = True
    expected = plain(model, PROMPT, 8, suppress=suppress)
    for guess in ([], texts[0], expected):
        ahead = look(model, suppress=suppress)
        assert ahead.text([], (), guess, 8, ()) == expected


def test_a_text_is_halted_where_it_is_not_worth_going_on_with(model, texts):
    for guess in ([], texts[0]):
        ahead = look(model)
        assert ahead.text([], (), guess, 8, (), lambda ids: len(ids) == 3) == texts[0][:3]
        assert ahead.passes == (1 if guess else 3)


def test_a_guess_never_exceeds_the_context(model):
    long = [20 + i % 100 for i in range(model.config.max_position_embeddings - 4)]
    ahead = look(model, long)
    answer = ahead.text([], (), [7] * 50, 4, ())
    assert answer == plain(model, long, 4)
    with pytest.raises(ValueError, match="exceed the context"):
        ahead.after([*answer, 1])


def test_an_answer_pass_gives_the_last_logits_of_the_whole(model):
    ids = torch.tensor([PROMPT])
    with torch.no_grad():
        expected = model(model.embed(ids), ids)
    for wanted in range(1, len(PROMPT) + 1):
        found = model.answer(model.embed(ids), ids, model.new_cache(), wanted)
        torch.testing.assert_close(found, expected[:, -wanted:], **SAME)


def test_impossible_requests_are_refused(model):
    ids = torch.tensor([PROMPT])
    with pytest.raises(ValueError, match="one row"):
        Lookahead(model, model.new_cache(batch=2), model.embed(ids), ids)
    with pytest.raises(ValueError, match="at most max_tokens"):
        look(model).text([], (1, 2), (), 1, ())


def true_chances(model, before, ids, temperature=1.0) -> list[float]:
    """By the definition: a softmax over the logits of the whole row."""
    row = torch.tensor([[*PROMPT, *before, *ids]])
    logits = model(model.embed(row), row)[0] / temperature
    first = len(PROMPT) + len(before) - 1
    return [logits[first + n].softmax(-1)[token].item() for n, token in enumerate(ids)]


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("right", range(0, 9, 2))
def test_chances_are_those_of_the_definition_whatever_was_guessed(model, texts, right, temperature):
    first, second = texts
    guess = [*first[:right], *(token + 1 for token in first[right:])]
    ahead = look(model, temperature=temperature)
    both(ahead, (guess, second))
    assert ahead.chances(0, first) == pytest.approx(
        true_chances(model, [], first, temperature), abs=1e-5
    )
    before = [*first, *SEPARATOR]
    assert ahead.chances(len(before), second) == pytest.approx(
        true_chances(model, before, second, temperature), abs=1e-5
    )


@pytest.mark.parametrize("guessed", [3, 2, 0])
def test_forced_ids_have_chances_if_they_are_judged(model, texts, guessed):
    """Whether all, some or none of them went along with an earlier guess."""
    first, second = texts
    other = [second[0] + 1, *second[1:3]]  # not what the model would say
    ahead = look(model)
    ahead.text([], [], [*first, *(SEPARATOR + other[:guessed] if guessed else [])], 8, ())
    before = [*first, *SEPARATOR]
    assert ahead.text(before, other, [], 5, (), judge=True)[:3] == other
    assert ahead.chances(len(before), other) == pytest.approx(
        true_chances(model, before, other), abs=1e-5
    )


def test_given_ids_that_nobody_judges_have_none(model, texts):
    first, _ = texts
    ahead = look(model)
    found = ahead.text([], first[:3], [], 5, ())
    assert ahead.chances(0, found)[:3] == [None] * 3
    assert None not in ahead.chances(0, found)[3:]


def test_judging_takes_no_pass_of_its_own(model, texts):
    first, _ = texts
    passes = []
    for judge in (False, True):
        ahead = look(model)
        ahead.text([], first[:4], first[4:], 8, (), judge=judge)
        passes.append(ahead.passes)
    assert passes == [1, 1]
