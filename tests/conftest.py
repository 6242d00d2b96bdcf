"""Tiny checkpoints for all tests that need a model folder.

Tests, and the processes that they start, keep compiled kernels in `build/cache`, not where the user
keeps his.
"""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
os.environ["XDG_CACHE_HOME"] = str(ROOT / "build" / "cache")


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


@pytest.fixture
def unrounded(monkeypatch):
    """Quantized products as on a CPU that cannot multiply bytes: what they take is not rounded."""
    from dragoman.kernels import block_loops, products  # here for the same reason

    caches = (products._kernel, block_loops.product)
    monkeypatch.setattr(block_loops, "has_bytes", lambda lanes: False)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()
