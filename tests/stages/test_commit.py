from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Plain
from tokenizers.models import WordLevel

from dragoman.errors import UsageError
from dragoman.models.tokenizer import Tokenizer
from dragoman.stages.hypothesis import Hypothesis
from dragoman.stages.policies import commit
from dragoman.stages.policies.commit import AlignAtt, LocalAgreement, Seen, Wait, without_loop

IDS = st.lists(st.integers(0, 5), max_size=40)


def begins_word(token: int) -> bool:
    """In these tests even ids begin a word and odd ones go on with it."""
    return token % 2 == 0


def updated(last: Hypothesis, ids: list[int]) -> Hypothesis:
    """The hypothesis after an update that decoded ``ids``."""
    return last.updated(ids, ids, lambda new: [1.0] * len(new))


def seen(hypotheses: list[list[int]], committed: int = 0, heard: int = 0, looks=()) -> Seen:
    """What a policy sees after updates that gave these ``hypotheses``."""
    text = Hypothesis()
    for ids in hypotheses:
        text = updated(text, ids)
    return Seen(text.ids, committed, text.ages, heard, looks)


def agreed(previous, current, committed, updates=2) -> int:
    return LocalAgreement(begins_word, updates)(seen([previous, current], committed))


@st.composite
def hypotheses(draw):
    """Previous and current hypothesis, alike at first; what is committed is common to both."""
    common, before, now = draw(IDS), draw(IDS), draw(IDS)
    return common + before, common + now, draw(st.integers(0, len(common)))


@given(hypotheses())
def test_commits_whole_words_that_both_agree_on_and_retracts_nothing(drawn):
    previous, current, committed = drawn
    new = agreed(previous, current, committed)
    assert committed <= new <= len(current)
    assert previous[:new] == current[:new]
    if new > committed:
        assert begins_word(current[new]), "a word is whole only once another has begun"
        assert previous[new] == current[new], "where they part, the word before is in doubt"


@given(hypotheses())
def test_commits_as_much_as_it_may(drawn):
    previous, current, committed = drawn
    new = agreed(previous, current, committed)
    for more in range(new + 1, len(current)):
        alike = previous[: more + 1] == current[: more + 1]
        assert not alike or not begins_word(current[more])


@given(IDS)
def test_one_hypothesis_is_not_enough(ids):
    assert agreed([], ids, 0) == 0


def test_examples():
    words = [0, 1, 2, 3, 4]  # three words: 0 1, 2 3, 4
    assert agreed(words, words, 0) == 4
    assert agreed(words, [0, 1, 2, 5, 4], 0) == 2
    assert agreed([0, 1, 2], words, 0) == 2
    assert agreed(words, words[:4], 2) == 2  # the last word may still grow
    assert agreed([0, 1], [2, 3], 0) == 0


def test_agreement_may_be_asked_of_more_hypotheses():
    updates = [[0, 2, 4, 6], [0, 2, 4, 4], [0, 2, 4, 6]]
    assert [LocalAgreement(begins_word, n)(seen(updates)) for n in (1, 2, 3, 4)] == [3, 2, 2, 0]
    assert LocalAgreement(begins_word, 3)(seen(updates[:2])) == 0


@given(st.lists(IDS, max_size=6))
def test_ages_say_how_many_updates_in_a_row_had_a_token(updates):
    text, sofar = Hypothesis(), []
    for ids in updates:
        text, sofar = updated(text, ids), [*sofar, ids]
        for place, age in enumerate(text.ages):
            same = [old[: place + 1] == ids[: place + 1] for old in reversed(sofar)]
            assert age == [*same, False].index(False)
    assert all(a >= b for a, b in pairwise(text.ages)) and len(text.ages) == len(text.ids)


@given(updates=st.lists(IDS, max_size=8), name=st.sampled_from([*commit.POLICIES]), data=st.data())
def test_what_is_committed_never_decreases(updates, name, data):
    policy, text = commit.policy(name, begins_word), Hypothesis()
    for heard, ids in enumerate(updates):
        last, text = text.committed, updated(text, text.ids[: text.committed] + ids)
        places = st.lists(st.integers(0, 8), min_size=len(text.ids), max_size=len(text.ids))
        looks = data.draw(places) if commit.watches(policy) else ()
        text.committed = policy(Seen(text.ids, text.committed, text.ages, heard, looks))
        assert last <= text.committed <= len(text.ids)


def test_hold_keeps_the_last_words_back():
    hold = commit.Hold(lambda token: token > 0, words=2)
    assert hold(seen([[1, -1, 2, 3, -1]])) == 2  # a piece of a word counts to it
    assert hold(seen([[1]])) == 0
    assert hold(seen([[1, 2, 3]], committed=3)) == 3  # never less than what was promised


def test_wait_follows_the_sound_so_many_words_behind():
    wait, words = Wait(begins_word, words=2), [[0, 1, 2, 4, 5, 6]]  # four words
    found = [wait(seen(words, heard=heard)) for heard in (0, 5, 6, 7, 8, 10, 40)]
    assert found == [0, 0, 2, 2, 3, 5, 5], "the last word may still grow"
    assert wait(seen(words, committed=4, heard=0)) == 4


def test_attention_commits_up_to_the_first_word_that_looks_at_the_end():
    guided, words = AlignAtt(begins_word, frames=2), [[0, 1, 2, 4, 5, 6]]
    at = [3, 4, 5, 8, 7, 9]
    assert guided(seen(words, heard=12, looks=at)) == 5, "nothing looks at the end, the last holds"
    assert guided(seen(words, heard=10, looks=at)) == 3
    assert guided(seen(words, heard=9, looks=at)) == 3, "4 looks at the end but one, as 5 does"
    assert guided(seen(words, heard=5, looks=at)) == 0, "a word of which a piece does is not whole"
    assert guided(seen(words, committed=5, heard=5, looks=at)) == 5
    assert guided(seen([[]], heard=9)) == 0


@pytest.mark.parametrize(
    ("name", "number"), [("local-agreement:3", 3), ("hold-n:5", 5), ("wait-k:1", 1)]
)
def test_a_number_behind_the_name_is_that_of_the_policy(name, number):
    kind, words = name.split(":")[0], [[0, 2, 4, 6, 8, 10, 12]] * 4
    mine = commit.POLICIES[kind](begins_word, number)
    assert commit.policy(name, begins_word)(seen(words, heard=12)) == mine(seen(words, heard=12))
    assert mine(seen(words, heard=12)) != commit.POLICIES[kind](begins_word, 90)(seen(words))


@pytest.mark.parametrize("name", ["hold-n:0", "hold-n:", "wait-k:-1", "wait-k:1.5", "hold-n:101"])
def test_another_number_is_refused(name):
    with pytest.raises(UsageError, match="expected a number from 1 to 100"):
        commit.policy(name, begins_word)


def test_an_unknown_policy_is_refused_with_a_choice():
    with pytest.raises(UsageError, match="no commit policy 'none': choose one of local-agreement"):
        commit.policy("none", begins_word)


@given(before=IDS, phrase=st.lists(st.integers(6, 9), min_size=1, max_size=8), after=IDS)
def test_a_loop_is_cut_to_one_phrase(before, phrase, after):
    found = without_loop(before + phrase * 16 + after)
    assert len(found) <= len(before) + len(phrase)
    assert found == (before + phrase)[: len(found)]


@given(ids=IDS, copies=st.integers(0, 11))
def test_what_is_kept_is_a_prefix_without_a_loop(ids, copies):
    ids = ids + [7] * copies
    found = without_loop(ids)
    assert found == ids[: len(found)]
    assert without_loop(found) == found


def test_people_may_repeat_themselves():
    for ids in ([1, 1, 1], [1, 2] * 5, [9, 0, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5] * 2, [], [4] * 11):
        assert without_loop(ids) == ids
    assert without_loop([4] * 12) == [4]
    assert without_loop([8, *[1, 2, 3, 4] * 3, 9]) == [8, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("earlier", "later", "agreed", "held"),
    [
        ("今日|は|雨|が|降|り", "今日|は|雨|が|降|る|でしょう", "今日は雨が", "今日は雨が"),
        ("วัน|นี้|ฝน|ตก", "วัน|นี้|ฝน|จะ|ตก", "วันนี้", "วันนี้"),
        (
            "今日|のニュ|ース|です",
            "今日|のニュ|ース",
            "今日",
            "",
        ),  # a long sound goes on with its letter
    ],
)
def test_without_spaces_words_are_committed_as_they_come(earlier, later, agreed, held):
    pieces = list(dict.fromkeys(["<unk>", *earlier.split("|"), *later.split("|")]))
    ids = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(lambda: Plain(WordLevel(ids, unk_token="<unk>")))
    updates = [[ids[piece] for piece in text.split("|")] for text in (earlier, later)]
    for name, expected in (("local-agreement", agreed), ("hold-n", held)):
        committed = commit.policy(name, tokenizer.begins_word)(seen(updates))
        assert "".join(later.split("|")[:committed]) == expected, name
