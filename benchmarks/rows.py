"""What is measured, by name: every row of the published table and its target.

A row says what its figure means; a measurement gives results for some rows. The ratio of a row is
always how many times better than the peer, so that a target is met where ratio >= target, whatever
the unit.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

TRANSFORMERS = "transformers"


@dataclass(frozen=True)
class Row:
    """One line: ``higher`` says whether more of ``unit`` is better.

    ``target`` is the least ratio to ``peer``, ``limit_target`` the least fraction of the machine's
    limit; None where nothing was promised.
    """

    name: str
    title: str
    unit: str
    higher: bool
    peer: str = TRANSFORMERS
    target: float | None = None
    limit_target: float | None = None

    def ratio(self, ours: float, theirs: float | None) -> float | None:
        """Times better than the peer; None without a peer's figure, or where one is zero."""
        if theirs is None or not ours or not theirs:
            return None
        return ours / theirs if self.higher else theirs / ours


@dataclass(frozen=True)
class Result:
    """A measured row, in the row's unit.

    ``limit`` is the best the machine could do, in the same unit. ``target`` replaces the row's,
    where a target is an absolute figure and the ratio it stands for depends on the peer's.
    """

    row: Row
    ours: float
    theirs: float | None = None
    limit: float | None = None
    rounds: int = 1
    target: float | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        return self.row.ratio(self.ours, self.theirs)

    @property
    def limit_fraction(self) -> float | None:
        """How near to the limit: 1 is as good as the machine can do."""
        if self.limit is None or not self.ours or not self.limit:
            return None
        return self.ours / self.limit if self.row.higher else self.limit / self.ours


class Unavailable(Exception):
    """A measurement cannot be made here; the message says why, and what would make it possible."""


@dataclass(frozen=True)
class Measurement:
    """A function that measures some rows together; ``heavy`` ones are left out of a quick run."""

    name: str
    rows: tuple[Row, ...]
    run: Callable[[Any], Iterable[Result]]
    heavy: bool = False
