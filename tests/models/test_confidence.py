"""The two keys of a model's folder that are about confidences."""

import json

import pytest

from dragoman.errors import CheckpointError
from dragoman.models.confidence import least, temperature


@pytest.mark.parametrize("said", [0, -1, "2", True, float("inf")])
def test_a_temperature_is_a_number_above_zero(said):
    with pytest.raises(CheckpointError, match="confidence_temperature"):
        temperature({"confidence_temperature": said})


def test_logits_are_taken_as_they_are_where_none_is_named():
    assert temperature({}) == 1.0
    assert temperature({"confidence_temperature": 3}) == 3.0


@pytest.fixture
def folder(tmp_path):
    def make(**keys):
        config = json.dumps({"model_type": "gemma3n", **keys})
        (tmp_path / "config.json").write_text(config, encoding="utf-8")
        return str(tmp_path)

    return make


def test_a_folder_names_the_threshold_for_cues(folder):
    assert least(folder(min_confidence=0.3)) == 0.3
    assert least(folder()) == 0.0
    assert least("google/gemma-3n-E2B-it") == 0.0, "it is not here, or has no such key"


@pytest.mark.parametrize("said", [-0.1, 1.1, "0.5", None])
def test_a_threshold_is_a_number_from_0_to_1(folder, said):
    with pytest.raises(CheckpointError, match="min_confidence"):
        least(folder(min_confidence=said))
