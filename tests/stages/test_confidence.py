"""Words have the probabilities of their tokens."""

from dataclasses import replace

import pytest

from dragoman.stages.confidence import word_confidences
from dragoman.stages.messages import Text


@pytest.mark.parametrize(
    ("pieces", "chances", "words"),
    [
        (["El", " tren", "."], [0.9, 0.8, 0.5], [0.9, 0.4]),
        ([" el", "ef", "ante"], [0.5, 0.5, 0.5], [0.125]),
        (["no", ", s", "í"], [0.5, 0.4, 0.5], [0.2, 0.2]),  # a token that ends and begins words
        (["a", " ", "b"], [0.5, 0.1, 0.7], [0.5, 0.7]),
        (["", "a"], [0.2, 0.3], [0.3]),  # a special token has no text
        ([], [], []),
    ],
)
def test_a_words_confidence_is_the_product_of_its_tokens(pieces, chances, words):
    shown = "".join(pieces).split()
    assert word_confidences(shown, pieces, chances) == pytest.approx(tuple(words))


def test_what_is_not_shown_does_not_count():
    pieces, chances = ["**", "Spanish", ":**", " el", " tren", "\n"], [0.1, 0.2, 0.3, 0.9, 0.8, 0.1]
    assert word_confidences(["el", "tren"], pieces, chances) == (0.9, 0.8)


def test_a_word_that_was_shown_in_another_form_is_the_least_certain():
    assert word_confidences(["el", "tren"], ["el ", "tr*en*"], [0.9, 0.6]) == (0.9, 0.6)


def test_words_that_come_twice_are_told_apart():
    assert word_confidences(["no", "no"], ["no", " no"], [0.9, 0.4]) == (0.9, 0.4)


def test_a_chance_for_each_piece_is_asked_for():
    with pytest.raises(ValueError, match="2 pieces have 1 chances"):
        word_confidences(["a"], ["a", "b"], [0.5])


def test_a_text_pairs_its_words_with_their_confidences():
    text = Text("The train", " leaves", (0.9, 0.85, 0.234))
    assert text.words == (("The", 0.9), ("train", 0.85), ("leaves", 0.234))
    assert text.confidence == pytest.approx((0.9 + 0.85 + 0.234) / 3)
    assert text.to_event()["confidence"] == [0.9, 0.85, 0.23]


def test_without_spaces_each_letter_has_a_confidence():
    pieces, chances = ["今日", "は", "雨", "。"], [0.9, 0.8, 0.5, 0.5]
    text = Text("今日は雨。")
    found = word_confidences([word for word, _ in text.words], pieces, chances)
    assert found == pytest.approx((0.9, 0.9, 0.8, 0.25))
    assert replace(text, confidences=found).words[-1] == ("雨。", 0.25)


def test_confidences_may_be_unknown():
    text = Text("The train")
    assert text.words == (("The", None), ("train", None))
    assert text.confidence is None and text.to_event()["confidence"] == []
    assert text == Text("The train", confidences=(0.1, 0.2)), "they do not change what is said"
