import random
from collections import Counter

import pytest

from tests.training.corpus_like import LANGUAGES, ROWS, write_part
from training.draws import Draws
from training.speech_parts import Speech

TEXTS = dict(zip(LANGUAGES, ROWS[0], strict=True))


def drawn(draws: Draws, count: int = 400) -> Counter:
    rng = random.Random(0)
    records = (draws(rng).record for _ in range(count))
    return Counter((record.language, record.synthesizer) for record in records)


def test_languages_are_alike_and_synthesizers_by_the_root_of_what_they_said(tmp_path):
    write_part(tmp_path, "train", "quick", "a", [("es", TEXTS, 0.1)] * 36 + [("fr", TEXTS, 0.1)])
    write_part(tmp_path, "train", "slow", "a", [("es", TEXTS, 0.1)] * 4)
    counts = drawn(Draws(Speech(tmp_path)))
    assert counts["fr", "quick"] == pytest.approx(200, abs=40)
    assert counts["es", "quick"] == pytest.approx(150, abs=35)  # 6 : 2
    assert counts["es", "slow"] == pytest.approx(50, abs=25)


def test_a_synthesizer_that_sounds_less_like_people_is_heard_less(tmp_path):
    for name in ("espeak", "kokoro"):
        write_part(tmp_path, "train", name, "a", [("es", TEXTS, 0.1)])
    counts = drawn(Draws(Speech(tmp_path)))
    assert counts["es", "kokoro"] == pytest.approx(300, abs=35)  # 1.5 : 0.5


def test_new_parts_are_drawn_from(tmp_path):
    write_part(tmp_path, "train", "quick", "a", [("es", TEXTS, 0.1)])
    draws = Draws(Speech(tmp_path))
    write_part(tmp_path, "train", "slow", "b", [("it", TEXTS, 0.1)])
    assert set(drawn(draws, 20)) == {("es", "quick")} and len(draws) == 1
    draws.refresh()
    assert set(drawn(draws, 40)) == {("es", "quick"), ("it", "slow")} and len(draws) == 2
