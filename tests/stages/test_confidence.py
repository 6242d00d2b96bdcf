"""Words have the probabilities of their tokens."""

import pytest

from dragoman.stages.confidence import word_confidences
from dragoman.stages.messages import Text


@pytest.mark.parametrize(
    ("pieces", "chances", "words"),
    [
        (["El", " tren", "."], [0.9, 0.8, 0.5], [0.9, 0.4]),
        ([" el", "ef", "ante"], [0.5, 0.5, 0.5], [0.125]),
        (
            ["no", ", s", "\u00ed"],
            [0.5, 0.4, 0.5],
            [0.2, 0.2],
        ),  # a token that ends and begins words
        (["a", " ", "b"], [0.5, 0.1, 0.7], [0.5, 0.7]),
        (["", "a"], [0.2, 0.3], [0.3]),  # a special token has no text
        ([], [], []),
    ],
)
def test_a_words_confidence_is_the_product_of_its_tokens(pieces, chances, words):
    assert word_confidences(pieces, chances) == pytest.approx(tuple(words))
    assert len(words) == len("".join(pieces).split())


def test_a_chance_for_each_piece_is_asked_for():
    with pytest.raises(ValueError):
        word_confidences(["a", "b"], [0.5])


def test_a_text_pairs_its_words_with_their_confidences():
    text = Text("The train", " leaves", (0.9, 0.85, 0.234))
    assert text.words == (("The", 0.9), ("train", 0.85), ("leaves", 0.234))
    assert text.confidence == pytest.approx((0.9 + 0.85 + 0.234) / 3)
    assert text.to_event()["confidence"] == [0.9, 0.85, 0.23]


def test_confidences_may_be_unknown():
    text = Text("The train")
    assert text.words == (("The", None), ("train", None))
    assert text.confidence is None and text.to_event()["confidence"] == []
    assert text == Text("The train", confidences=(0.1, 0.2)), "they do not change what is said"
