"""Tiny checkpoints for all tests that need a model folder."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint in the Hugging Face layout; read only, so copy it before changing it."""
    from tests import nano_like  # here, so that tests without a model need no torch

    return nano_like.make(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def seeing_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a vision tower; read only."""
    from tests import seeing

    return seeing.make(tmp_path_factory.mktemp("seeing") / "tiny", tiny_folder)
