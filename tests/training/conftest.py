"""The tiny model as training has it."""

import pytest

from dragoman.models.tokenizer import Tokenizer
from training.batch import Batcher


@pytest.fixture(scope="session")
def tokenizer(tiny_folder) -> Tokenizer:
    return Tokenizer.from_file(tiny_folder / "tokenizer.json")


@pytest.fixture(scope="session")
def batcher(tokenizer) -> Batcher:
    """Cuts nothing."""
    return Batcher(tokenizer, cut_share=0.0)
