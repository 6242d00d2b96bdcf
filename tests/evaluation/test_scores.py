"""Scores of made-up answers, whose errors can be counted by hand."""

import pytest

from evaluation.scores import Confusions, by_voice, right_words, translation_scores, word_errors


def row(said, heard, voice="a", meant="The sun.", translation="The sun."):
    return {
        "said": said,
        "transcript": heard,
        "voice": voice,
        "meant": meant,
        "translation": translation,
    }


def test_errors_are_counted_over_all_words():
    found = word_errors([row("El sol, la luna.", "el sol la lana"), row("Sí.", "sí que no")])
    assert (found.words, found.substituted, found.deleted, found.inserted) == (5, 1, 0, 2)
    assert found.rate == pytest.approx(3 / 5)


def test_an_empty_answer_misses_every_word():
    assert word_errors([row("uno dos", "")]).deleted == 2


def test_voices_stand_worst_first():
    rows = [row("uno dos", "uno dos"), row("uno dos", "uno tres", voice="b")]
    assert list(by_voice(rows).items()) == [("b", 0.5), ("a", 0.0)]


def test_right_translations_score_a_hundred():
    assert translation_scores([row("", "")] * 4) == {
        "chrf": 100.0,
        "bleu": 0.0,  # "The sun." has no four words in a row
    }


def test_confusions_of_words_and_letters():
    found = Confusions.of(
        [row("la casa es vieja", "la capa es"), row("la casa", "la capa"), row("no", "no muy")]
    )
    assert found.words[("casa", "capa")] == 2
    assert found.words[("vieja", "")] == 1 and found.words[("", "muy")] == 1
    assert found.letters == {("s", "p"): 2}


@pytest.mark.parametrize(
    ("said", "heard", "right"),
    [
        ("Dall'orbita si vede.", "Dall'orbita vede.", [True, True]),
        ("Dall'orbita si vede.", "Nell'orbita si vede.", [False, True, True]),
        ("Sí, claro.", "Sí — claro. No", [True, True, True, False]),
        ("Nada.", "...", [True]),
        ("Nada.", "", []),
    ],
)
def test_each_shown_word_is_right_or_wrong(said, heard, right):
    assert right_words(row(said, heard)) == right
