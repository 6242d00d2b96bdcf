"""Which part of the model a segment runs on: one size, two, or the one that keeps up.

Between the options of a session and the caches of :mod:`stages.translate`. A size is chosen where a
segment opens and holds until it closes, as keys and values of two sizes differ. Unusual: stages
have no clock, and need none to know that a session lags: its driver then marks the chunks that are
late, and how many of a segment's are says by how much.
"""

from dataclasses import dataclass

from dragoman.decoder import Slice, TextConfig
from dragoman.models.sizes import ladder, parse
from dragoman.stages.messages import SessionOptions

AUTO = "auto"
LAGGING = 0.1  # of a segment's pieces that came late: more, and a smaller size runs


@dataclass(frozen=True)
class Sizes:
    """Sizes from large to small, of which a session runs one, and another for its drafts.

    ``draft`` is None where partial captions are made at the size of the final ones.
    """

    steps: tuple[Slice, ...]
    draft: Slice | None = None

    @classmethod
    def of(cls, options: SessionOptions, config: TextConfig) -> "Sizes":
        """The sizes that a session asks for; raises SizeError for one the model does not have."""
        if options.size == AUTO:
            steps = ladder(config)
        else:
            steps = (parse(options.size, config) if options.size else Slice.whole(config),)
        return cls(steps, parse(options.draft_size, config) if options.draft_size else None)


@dataclass
class Pressure:
    """How well a session keeps up: the size it runs now, and what came of its open segment."""

    step: int = 0
    pieces: int = 0
    late: int = 0

    def note(self, late: bool) -> None:
        """Counts a piece of the open segment, which came in time or not."""
        self.pieces += 1
        self.late += late

    def next_segment(self, sizes: Sizes) -> Slice:
        """The final size of the segment that opens now: a step down after a segment that lagged, a
        step up after one that never did.
        """
        if self.late > LAGGING * self.pieces:
            self.step = min(self.step + 1, len(sizes.steps) - 1)
        elif self.late == 0:
            self.step = max(self.step - 1, 0)
        self.pieces = self.late = 0
        return sizes.steps[self.step]
