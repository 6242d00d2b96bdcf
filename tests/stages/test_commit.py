import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Plain
from tokenizers.models import WordLevel

from dragoman.models.tokenizer import Tokenizer
from dragoman.stages.policies.commit import POLICIES, LocalAgreement, without_loop

IDS = st.lists(st.integers(0, 5), max_size=40)


def begins_word(token: int) -> bool:
    """In these tests even ids begin a word and odd ones go on with it."""
    return token % 2 == 0


policy = LocalAgreement(begins_word)


@st.composite
def hypotheses(draw):
    """Previous and current hypothesis, alike at first; what is committed is common to both."""
    common, before, now = draw(IDS), draw(IDS), draw(IDS)
    return common + before, common + now, draw(st.integers(0, len(common)))


@given(hypotheses())
def test_commits_whole_words_that_both_agree_on_and_retracts_nothing(drawn):
    previous, current, committed = drawn
    new = policy(previous, current, committed)
    assert committed <= new <= len(current)
    assert previous[:new] == current[:new]
    if new > committed:
        assert begins_word(current[new]), "a word is whole only once another has begun"
        assert previous[new] == current[new], "where they part, the word before is in doubt"


@given(hypotheses())
def test_commits_as_much_as_it_may(drawn):
    previous, current, committed = drawn
    new = policy(previous, current, committed)
    for more in range(new + 1, len(current)):
        agreed = previous[: more + 1] == current[: more + 1]
        assert not agreed or not begins_word(current[more])


@given(IDS)
def test_one_hypothesis_is_not_enough(ids):
    assert policy([], ids, 0) == 0


def test_examples():
    words = [0, 1, 2, 3, 4]  # three words: 0 1, 2 3, 4
    assert policy(words, words, 0) == 4
    assert policy(words, [0, 1, 2, 5, 4], 0) == 2
    assert policy([0, 1, 2], words, 0) == 2
    assert policy(words, words[:4], 2) == 2  # the last word may still grow
    assert policy([0, 1], [2, 3], 0) == 0


@given(sessions=st.lists(IDS, max_size=8))
def test_what_is_committed_never_decreases(sessions):
    previous, committed = [], 0
    for ids in sessions:
        current = previous[:committed] + ids  # decoding is forced through what is committed
        now = policy(previous, current, committed)
        assert now >= committed and current[:committed] == previous[:committed]
        previous, committed = current, now


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
    previous, current = ([ids[piece] for piece in text.split("|")] for text in (earlier, later))
    for name, expected in (("local-agreement", agreed), ("hold-3", held)):
        committed = POLICIES[name](tokenizer.begins_word)(previous, current, 0)
        assert "".join(later.split("|")[:committed]) == expected, name
