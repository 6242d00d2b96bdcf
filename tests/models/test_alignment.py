"""The two keys of a model's folder that say where its decoder looks."""

import json
import shutil

import pytest

from dragoman.errors import CheckpointError
from dragoman.models import sizes
from dragoman.models.alignment import DELAY, HEADS, delay_ms, heads
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.slicing import write_slice
from tests.nano_like import read_config


@pytest.mark.parametrize(
    "said", [3, [3], [[1]], [[0, 4]], [[6, 0]], [[-1, 0]], [[0, True]], [["0", 0]]]
)
def test_heads_are_those_that_there_are(said):
    with pytest.raises(CheckpointError, match=HEADS):
        heads({HEADS: said}, layers=6, each=4)


@pytest.mark.parametrize("said", [-1, 2_001, 0.5, "9", None, True])
def test_a_delay_is_a_whole_number_of_milliseconds(said):
    with pytest.raises(CheckpointError, match=DELAY):
        delay_ms({DELAY: said})


def test_official_folders_name_neither():
    assert heads({}, 30, 8) == () and delay_ms({}) == 0
    assert heads({HEADS: [[9, 0], [4, 3]]}, 30, 8) == ((9, 0), (4, 3))
    assert delay_ms({DELAY: 250}) == 250


def test_a_slice_has_the_heads_of_the_layers_that_it_keeps(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "whole")
    config = read_config(folder) | {HEADS: [[1, 0], [4, 1], [5, 1]]}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    checkpoint = Checkpoint.open(str(folder))
    size = sizes.parse("64,4=skip", checkpoint.text_config)
    write_slice(checkpoint, size, tmp_path / "small")
    assert Checkpoint.open(str(tmp_path / "small")).alignment_heads == ((1, 0), (4, 1))
