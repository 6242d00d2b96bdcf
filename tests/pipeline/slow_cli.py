"""The command line with a pause after every segment, for tests that must hit a batch half-way.

python -m tests.pipeline.slow_cli translate ...
"""

import sys
import time
from dataclasses import dataclass

from dragoman.demos import cli
from dragoman.pipeline import batch
from dragoman.pipeline.recipes import Recipe, recipes
from dragoman.spec import ModelSpec
from tests.pipeline.fake_stages import Making


@dataclass
class Pausing:
    """Hands captions on after ``pause_s``."""

    pause_s: float

    def init_state(self, options):
        return None

    def step(self, item, state):
        time.sleep(self.pause_s)
        return [item], state

    def flush(self, state):
        return []


def slow(spec: ModelSpec) -> tuple[Recipe, ...]:
    return (*recipes(spec), Recipe("pause", Making(Pausing(0.2))))


if __name__ == "__main__":
    batch.recipes = slow
    sys.exit(cli.main())
