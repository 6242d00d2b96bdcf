"""Talks and their scores: the field's own tools score captions that were made up."""

import shutil

import numpy as np
import pytest

from dragoman.stages.messages import Caption, Text
from evaluation.longform import scored
from evaluation.talk import Sentence, Talk, talk

SECOND = 16_000
SAID = [
    ("La casa es blanca.", "The house is white and very old."),
    ("El perro duerme.", "The dog sleeps under the big table."),
]


@pytest.fixture
def made_up() -> Talk:
    sentences = [
        Sentence(n * 5 * SECOND, (n * 5 + 3) * SECOND, {"es": es, "en": en})
        for n, (es, en) in enumerate(SAID)
    ]
    return Talk(np.zeros(10 * SECOND, np.float32), "es", "nobody", sentences)


def captions(delay_s=1.0, wait_ms=200):
    """Each sentence, as it is translated word by word while it is spoken, and a guess too many."""
    for n, (_, english) in enumerate(SAID):
        words = english.split()
        for count in range(1, len(words) + 1):
            kind = "final" if count == len(words) else "partial"
            end = round((n * 5 + 3 * count / len(words) + delay_s) * SECOND)
            tail = "" if kind == "final" else " maybe"
            text = Text(" ".join(words[:count]), tail)
            latency = {"partial_ms": wait_ms}
            yield Caption(kind, n, 0, end, "es", "en", Text("sí"), text, latency=latency)


@pytest.fixture
def tools():
    for name in ("omnisteval", "simulstream", "mweralign"):
        pytest.importorskip(name)
    if shutil.which("perl") is None:
        pytest.skip("omnisteval wants perl")


def test_true_words_get_full_marks_and_their_delay(made_up, tools):
    found = scored(captions(delay_s=1.0), made_up, "en", committed_only=True)
    assert found["bleu"] == pytest.approx(100) and found["chrf"] == pytest.approx(100)
    assert found["normalized_erasure"] == 0
    late = scored(captions(delay_s=1.5), made_up, "en", committed_only=True)
    for score in ("longyaal_cu_ms", "streamlaal_cu_ms"):
        assert late[score] - found[score] == pytest.approx(500, abs=5)
        assert found[score.replace("_cu_", "_ca_")] - found[score] == pytest.approx(200, abs=5)


def test_what_is_taken_back_is_erasure(made_up, tools):
    found = scored(captions(), made_up, "en", committed_only=False)
    words = sum(len(english.split()) for _, english in SAID)
    assert found["normalized_erasure"] == pytest.approx((words - 2) / words, abs=1e-3)


def test_a_talk_in_which_nothing_was_understood_has_no_scores(made_up):
    silent = [Caption("final", 0, 0, SECOND, "es", "en", Text(), Text())]
    assert scored(silent, made_up, "en", committed_only=True) == {}


def test_a_talk_is_spoken_once(tmp_path):
    first = talk(tmp_path, "es", 0.1, "espeak")
    again = talk(tmp_path, "es", 0.1, "espeak")
    assert np.array_equal(first.samples, again.samples) and first.voice == again.voice
    assert first.sentences == again.sentences and first.seconds >= 6
    ends = [0, *(sentence.end for sentence in first.sentences)]
    for end, sentence in zip(ends, first.sentences, strict=False):
        assert end + SECOND // 2 <= sentence.start < sentence.end <= len(first.samples)
        spoken, pause = (
            first.samples[sentence.start : sentence.end],
            first.samples[end:][: SECOND // 4],
        )
        assert np.std(spoken) > 10 * np.std(pause)
        assert set(sentence.texts) == {"en", "es", "fr", "it", "pt"}
