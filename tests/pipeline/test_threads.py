"""How many threads the decoder gets."""

import os

from dragoman.pipeline.recipes import recipes
from dragoman.spec import ModelSpec
from tests.models import variants


def test_a_small_model_leaves_a_core_and_a_large_one_takes_all(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with (tmp_path / "model.safetensors").open("wb") as weights:
        weights.truncate(2**31)  # as large as that, without taking room
    assert [recipe.threads for recipe in recipes(ModelSpec("nano"))] == [0, 1, 2]
    assert [recipe.threads for recipe in recipes(ModelSpec(str(tmp_path)))] == [0, 3, 3], "in turns"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert [recipe.threads for recipe in recipes(ModelSpec(str(tmp_path)))] == [0, 1, 4]
    assert recipes(ModelSpec(str(tmp_path), threads=1))[-1].threads == 1


def test_a_small_folder_and_an_adapter_over_it_are_small(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    variants.adapter(tiny_folder, tmp_path / "lora", ("q_proj",))
    for folder in (tiny_folder, tmp_path / "lora"):
        assert [recipe.threads for recipe in recipes(ModelSpec(str(folder)))] == [0, 1, 2]
