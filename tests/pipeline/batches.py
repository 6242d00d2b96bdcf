"""What the tests of batches share: files of constant sound, runs, and what they leave behind."""

import contextlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ray

from dragoman.models.words import words
from dragoman.pipeline.batch import Batch
from dragoman.pipeline.batch_file import Advanced, Result
from dragoman.pipeline.batch_options import BatchOptions
from dragoman.pipeline.inputs import find
from dragoman.pipeline.journal import NAME
from dragoman.pipeline.pool import Pool
from dragoman.pipeline.recipes import Recipe
from tests.pipeline import media_files
from tests.pipeline.chains import pool_of
from tests.pipeline.fake_stages import POISON, fakes, tone


@contextmanager
def ray_of_our_own(cpus: int = 6) -> Iterator[None]:
    """CPUs for the sound of two graphs, and none to spare for a lane."""
    with contextlib.chdir(media_files.ROOT):  # where its workers find the tests
        ray.init(
            address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False,
            logging_level=logging.ERROR, object_store_memory=100 * 2**20,
        )  # fmt: skip
    yield
    ray.shutdown()


@contextmanager
def workers(stages: Sequence[Recipe], look: Recipe | None = None) -> Iterator[Pool]:
    """A pool of two for ``stages``, the segmenter first."""
    made = pool_of(stages[1:], 2, look)
    yield made
    made.stop()


def sound(path: Path, chunks: float, value: float = 0.1, poisoned: int | None = None) -> Path:
    """A WAV file of constant samples, exact in 16 bits; POISON in one chunk if asked."""
    samples = tone(chunks, value)
    if poisoned is not None:
        samples[poisoned * 2_560 + 5] = POISON
    return media_files.write(path, samples, "pcm_s16le")


def batch(paths, out=None, stages=None, look=None, **options) -> Batch:
    sources, missing = find(paths, out)
    assert missing == []
    return Batch(sources, BatchOptions(**options), stages or fakes(), look)


def run(made: Batch, pool: Pool) -> dict[str, Result]:
    """The results by file name."""
    try:
        results = [*made.prepare(), *made.write()]
        results += [event for event in made.run(pool) if not isinstance(event, Advanced)]
    finally:
        made.close()
    by_name = {result.path.name: result for result in results}
    assert len(by_name) == len(results)
    return by_name


def as_saved(event: dict) -> dict:
    """How the JSON document beside the subtitles tells of a final event, but for its words."""
    names = ("transcript", "translation")
    texts = {name: event[name]["committed"] for name in names}
    sure = {f"{name}_confidence": event[name]["confidence"] for name in names}
    kept = ("start", "end", "frames", "size", "guards")
    return {name: event[name] for name in kept} | texts | sure


def without_words(segments: list[dict]) -> list[dict]:
    """The segments of a document, of which each says when its words were spoken."""
    for segment in segments:
        assert [one["word"] for one in segment["words"]] == words(segment["transcript"])
    return [{name: segment[name] for name in segment if name != "words"} for segment in segments]


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / NAME).read_text().splitlines()]


def outputs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != NAME}
