"""The model stages over the tiny checkpoint, and over others like it."""

from collections.abc import Callable
from functools import lru_cache

import pytest

from dragoman.stages.encode import EncodeStage
from dragoman.stages.translate import TranslateStage
from tests import nano_like


@pytest.fixture(scope="session")
def encode(tiny_folder) -> EncodeStage:
    return EncodeStage.load(str(tiny_folder))


@pytest.fixture(scope="session")
def make(tmp_path_factory) -> Callable[[int], TranslateStage]:
    """Translate stages of random models by their seeds, each made once."""

    @lru_cache
    def made(seed: int) -> TranslateStage:
        return TranslateStage.load(str(nano_like.make(tmp_path_factory.mktemp("seed"), seed)))

    return made


@pytest.fixture(scope="session")
def stage(make) -> TranslateStage:
    return make(7)
