"""Chains of the tests' own stages, in this process or as Ray actors."""

from collections.abc import Sequence

from dragoman.pipeline.chain import Chain
from dragoman.pipeline.recipes import Recipe


def in_process(stages: Sequence[Recipe], look: Recipe | None = None) -> Chain:
    """In this process."""
    from dragoman.pipeline.local import Local

    return Local.start(stages, look)


def on_ray(stages: Sequence[Recipe], look: Recipe | None = None) -> Chain:
    """As Ray actors."""
    from dragoman.pipeline.graph import Graph

    return Graph.start(stages, look)
