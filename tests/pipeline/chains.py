"""Chains and pools of the tests' own stages, in this process or as Ray actors."""

from collections.abc import Sequence

from dragoman.pipeline.actors import InProcess
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.pool import Pool
from dragoman.pipeline.recipes import Recipe
from dragoman.pipeline.start import host
from dragoman.spec import BATCH_SIZE


def in_process(stages: Sequence[Recipe], look: Recipe | None = None) -> Chain:
    """In this process."""
    return Chain.start(InProcess(), stages, look)


def on_ray(stages: Sequence[Recipe], look: Recipe | None = None) -> Chain:
    """As Ray actors."""
    return Chain.start(host(ray=True), stages, look)


def pool_of(
    stages: Sequence[Recipe],
    workers: int | None = None,
    look: Recipe | None = None,
    batch_size: int = BATCH_SIZE,
) -> Pool:
    """Replicas as Ray actors, of the stages behind the segmenter."""
    return Pool.start(host(ray=True), stages, workers, look, batch_size)
