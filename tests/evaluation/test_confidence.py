"""The confidence curve, calibration and the choice of thresholds, on words made for it."""

import math

import pytest

from evaluation.confidence import (
    calibration,
    cue_threshold,
    curve,
    fitted,
    sure_threshold,
    surprise,
    words,
)


def row(said, heard, confidences):
    return {"said": said, "transcript": heard, "transcript_confidences": confidences}


WORDS = [(0.9, True)] * 8 + [(0.9, False)] * 2 + [(0.3, True)] * 2 + [(0.3, False)] * 8


def test_words_are_paired_with_their_confidences():
    assert words([row("uno dos", "uno tres", [0.9, 0.2]), row("uno", "dos", [])]) == [
        (0.9, True),
        (0.2, False),
    ]


def test_a_confidence_for_each_word_is_asked_for():
    with pytest.raises(ValueError):
        words([row("uno", "uno", [0.5, 0.5])])


def test_the_curve_trades_words_for_right_ones():
    all_of_them, sure = curve(WORDS, (0.0, 0.5, 0.95))
    assert (all_of_them.shown, all_of_them.right_of_shown) == (20, 0.5)
    assert (sure.right_of_shown, sure.shown_of_right) == (0.8, 0.8)
    assert sure_threshold([all_of_them, sure], 0.8) == sure
    assert sure_threshold([all_of_them, sure], 0.9) is None


def test_calibration_is_the_distance_to_what_is_right():
    assert calibration(WORDS) == pytest.approx(0.1)
    assert calibration([(0.999, True)] * 5) == pytest.approx(0.001)


def test_cues_that_are_mostly_wrong_are_left_out():
    good, bad = row("uno dos", "uno dos", [0.8, 0.8]), row("uno dos", "tres diez", [0.4, 0.4])
    assert 0.4 < cue_threshold([good, bad]) <= 0.8
    assert cue_threshold([good]) == 0.0


def test_surprise_is_least_at_the_true_share():
    assert surprise([]) == math.inf
    at = {c: surprise([(c, True)] * 7 + [(c, False)] * 3) for c in (0.5, 0.7, 0.9)}
    assert min(at, key=lambda confidence: at[confidence]) == 0.7


def test_the_temperature_of_a_model_that_is_too_sure_is_found():
    """A model whose logits are three times what they should be."""

    def answers(temperature):
        for logit, right in ((2.0, 88), (0.5, 62)):  # the right share of each is sigmoid(logit)
            confidence = 1 / (1 + math.exp(-3 * logit / temperature))
            yield from [row("uno", "uno", [confidence])] * right
            yield from [row("uno", "dos", [confidence])] * (100 - right)

    assert fitted(answers) == pytest.approx(3.0, rel=0.1)
