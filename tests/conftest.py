"""Tiny checkpoints for all tests that need a model folder, and the tiers of tests.

What starts a browser, a sound server or Ray, or takes long, is marked as such by its file here, or
by the beginning of its name; `make test-fast` leaves it out.

Tests, and the processes that they start, keep compiled kernels in `build/cache`, not where the user
keeps his. Torch has one thread unless a test or a stage asks for more: the products of tiny models
are over before a second thread has heard of them, and waiting for it is most of the time on a busy
machine.
"""

import os
import signal
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]
os.environ["XDG_CACHE_HOME"] = str(ROOT / "build" / "cache")
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
# Under nohup, or in the background of a script, these are ignored, and by what tests start as well.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
# How long an example takes is no property: the machine may be busy.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

TIERS = {
    "browser": ("demos/test_browser.py", "demos/test_page", "server/test_viewer_page.py"),
    "sound": ("demos/test_microphone.py",),
    "ray": (
        "test_api.py",
        "test_data.py",
        "test_wheel.py",
        "demos/test_cli.py",
        "demos/test_demo.py",
        "demos/test_doctor.py",
        "demos/test_pad_audio.py",
        "demos/test_stdout.py",
        "demos/test_translate.py",
        "pipeline/test_batch.py",
        "pipeline/test_batch_frames.py",
        "pipeline/test_conditional_loading.py",
        "pipeline/test_kills.py",
        "pipeline/test_knock.py",
        "pipeline/test_lane.py",
        "pipeline/test_nodes.py",
        "pipeline/test_pool.py",
        "pipeline/test_ray_actors.py",
        "pipeline/test_ray_of_our_own.py",
        "pipeline/test_ray_processes.py",
        "pipeline/test_start.py::test_a_model_of_the_hub",
        "pipeline/test_turns.py",
        "server/test_replicas.py",
    ),
    "slow": (
        "benchmarks/",
        "demos/test_models.py::test_a_model_of_the_hub",
        "demos/test_serve.py",
        "fuzz/",
        "kernels/",
        "models/test_transformers",
        "models/test_quantiz",
        "models/test_shards.py",
        "models/test_sizes.py",
        "pipeline/test_media.py::test_memory_does_not_grow",
        "pipeline/test_opening.py::test_a_name_that_is_not_utf_8",
        "server/test_realtime.py",
        "server/test_replaced.py",
        "server/test_replicas.py",
        "server/test_transcriptions.py",
        "stages/test_elastic.py",
        "stages/test_pictures.py",
        "stages/test_speech.py",
        "stages/test_translate",
        "test_pages.py",
        "test_serve_page.py",
        "training/test_speech.py",
        "training/test_train.py",
    ),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    for item in items:
        name = f"{item.path.relative_to(tests).as_posix()}::{item.name}"
        for tier, names in TIERS.items():
            if name.startswith(names):
                item.add_marker(tier)


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

    caches = (products.multiplying, block_loops.product)
    monkeypatch.setattr(block_loops, "has_bytes", lambda lanes: False)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()
