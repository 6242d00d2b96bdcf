"""Subtitles of a talk: true ones get the best score, others what is wrong with them."""

import numpy as np
import pytest

from dragoman.pipeline.formats import Cue
from dragoman.pipeline.subtitles import cues, write
from evaluation.delivered import scored, true_captions
from evaluation.talk import Sentence, Talk

pytest.importorskip("suber")
SECOND = 16_000
SAID = ["The house is white and very old.", "The dog sleeps under the big table."]


@pytest.fixture
def made_up() -> Talk:
    sentences = [
        Sentence(n * 5 * SECOND, (n * 5 + 3) * SECOND, {"en": text}) for n, text in enumerate(SAID)
    ]
    return Talk(np.zeros(10 * SECOND, np.float32), "en", "nobody", sentences)


def test_true_words_need_no_edit(made_up, tmp_path):
    path = tmp_path / "talk.en.srt"
    write(cues(true_captions(made_up, "en"), "transcript"), path)
    assert scored(path, made_up, "en") == {"suber": 0, "cues": 2, "within_rules": 1}


def test_wrong_words_and_faulty_cues_count(made_up, tmp_path):
    path = tmp_path / "talk.en.srt"
    lines = [("The house is red and very old.",), ("The dog sleeps under the big table.",)]
    write([Cue(0, 3_000, lines[0]), Cue(5_000, 5_400, lines[1])], path)
    found = scored(path, made_up, "en")
    # One of fourteen words, beside two ends of cues that are right.
    assert found["suber"] == pytest.approx(100 / 16, abs=0.01)
    assert found["within_rules"] == 0.5


def test_no_subtitles_lack_everything(made_up, tmp_path):
    path = tmp_path / "talk.en.srt"
    path.write_text("")
    assert scored(path, made_up, "en") == {"suber": 100, "cues": 0, "within_rules": 1}
