import random

import numpy as np
import pytest
import torch

from tests.training.corpus_like import LANGUAGES, ROWS, write_part, write_speech
from training.parts import Parts

TEXTS = dict(zip(LANGUAGES, ROWS[0], strict=True))


def test_an_utterance_is_what_was_stored(tmp_path):
    path = write_part(tmp_path, "train", "noise", "a", [("es", TEXTS, 0.5), ("fr", TEXTS, 0.25)])
    parts, stored = Parts(tmp_path, "train"), np.load(path.with_suffix(".npy"))
    assert len(parts) == 2 and parts.seconds == pytest.approx(0.75)
    second = parts[1]
    assert torch.equal(second.samples, torch.from_numpy(stored[8_000:]))
    assert second.language == "fr" and second.words == ["Le", "chien", "dort."]
    assert second.word_ends_samples == [1_333, 2_666, 4_000] and second.texts == TEXTS
    assert parts.kinds == [("noise", "es"), ("noise", "fr")]


def test_only_what_is_asked_for(tmp_path):
    write_speech(tmp_path)
    assert {one.language for one in Parts(tmp_path, "train", ["it", "pt"])} == {"it", "pt"}
    assert len(Parts(tmp_path, "train", synthesizers=["other"])) == 0
    assert len(Parts(tmp_path, "foreign")) == 2
    # What is left out before an utterance does not move it.
    italian, everything = Parts(tmp_path, "train", ["it"]), Parts(tmp_path, "train")
    (first,) = [i for i, kind in enumerate(everything.kinds) if kind[1] == "it"][:1]
    assert torch.equal(italian[0].samples, everything[first].samples)


def test_new_parts_come_behind_the_old_ones(tmp_path):
    write_part(tmp_path, "train", "noise", "b", [("es", TEXTS, 0.5)])
    parts = Parts(tmp_path, "train")
    before = parts[0].samples
    write_part(tmp_path, "train", "noise", "a", [("fr", TEXTS, 0.25)])
    assert len(parts) == 1 and parts.refresh() == 2 and parts.refresh() == 2
    assert torch.equal(parts[0].samples, before) and parts[1].language == "fr"


def test_a_part_without_its_samples_is_not_there_yet(tmp_path):
    path = write_part(tmp_path, "train", "noise", "a", [("es", TEXTS, 0.5)])
    path.with_suffix(".npy").rename(tmp_path / "kept.npy")
    parts = Parts(tmp_path, "train")
    assert len(parts) == 0
    (tmp_path / "kept.npy").rename(path.with_suffix(".npy"))
    assert parts.refresh() == 1


def test_languages_are_drawn_alike(tmp_path):
    rows = [("es", TEXTS, 0.1)] * 30 + [("fr", TEXTS, 0.1)]
    write_part(tmp_path, "train", "noise", "a", rows)
    parts, rng = Parts(tmp_path, "train"), random.Random(0)
    drawn = [parts.draw(rng).language for _ in range(100)]
    assert 30 < drawn.count("fr") < 70
