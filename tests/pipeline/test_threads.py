"""How many threads the decoder gets."""

import os

from dragoman.pipeline.recipes import recipes
from dragoman.spec import ModelSpec


def test_a_small_model_leaves_a_core_and_a_large_one_takes_all(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert [recipe.threads for recipe in recipes(ModelSpec("nano"))] == [0, 1, 2]
    assert [recipe.threads for recipe in recipes(ModelSpec(str(tmp_path)))] == [0, 3, 3], "in turns"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert [recipe.threads for recipe in recipes(ModelSpec(str(tmp_path)))] == [0, 1, 4]
    assert recipes(ModelSpec(str(tmp_path), threads=1))[-1].threads == 1
