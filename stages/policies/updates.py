"""When the hypothesis of an open segment is made anew: the one place that decides.

The encode stage asks, because it knows how many soft tokens there are, and says so in its messages
(`SoftTokens.update`); the translate stage obeys. Stages have no clock: that a session lags they
learn from the messages too (`Chunk.late`), which its driver marks (:mod:`pipeline.session`).
"""

from dataclasses import dataclass

from dragoman.stages.messages import SessionOptions


@dataclass(frozen=True)
class Updates:
    """An update after so many soft tokens, or none before the segment closes; closing is one."""

    every: int
    finals_only: bool = False

    @classmethod
    def of(cls, options: SessionOptions) -> "Updates":
        """The updates that a session asks for."""
        return cls(options.update_chunks, options.finals_only)

    def due(self, waiting: int, late: bool, closes: bool) -> bool:
        """Whether the segment is updated now, ``waiting`` soft tokens after the last update."""
        return closes or not (late or self.finals_only or waiting < self.every)
