"""One stage of a chain, wherever it runs, and what passes through it.

A Ray actor holds a link, or this process does. A batch that fails becomes a value, a `Failure`,
that travels on in place of messages: every link it passes forgets the session, no exception has to
survive pickling, and the other sessions notice nothing.
"""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from dragoman.errors import FAILED, PipelineError, exit_code
from dragoman.models import resident
from dragoman.pipeline.recipes import Recipe
from dragoman.stages.contract import StageHost
from dragoman.stages.messages import SessionOptions


@dataclass(frozen=True)
class Failure:
    """What came of a batch that a stage could not handle."""

    stage: str
    kind: str
    message: str
    trace: str
    exit_code: int = FAILED

    @classmethod
    def of(cls, stage: str, error: Exception) -> "Failure":
        trace = "".join(traceback.format_exception(error))
        return cls(stage, type(error).__name__, str(error), trace, exit_code(error))

    def error(self, where: str = "") -> PipelineError:
        """The failure as an error to raise; ``where`` says what failed, if more than loading."""
        message = f"{where} in stage {self.stage!r}: {self.kind}: {self.message}"
        return PipelineError(
            message if where else self.message, self.stage, self.kind, self.trace, self.exit_code
        )


Batch = list[Any] | Failure


class Packet(NamedTuple):
    """What a session sends through a link: batch ``seq`` of its messages; ``last`` ends it."""

    session: str
    seq: int
    items: Batch
    last: bool = False


class Link:
    """One stage of a chain and its open sessions: what a Ray actor holds. Never raises."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._host: StageHost[Any, Any, Any] | None = None
        self._failure: Failure | None = None

    def load(self) -> Failure | None:
        """Makes the stage: reads weights, so it may take long."""
        try:
            self._host = StageHost(self._recipe.made())
        except Exception as error:
            self._failure = Failure.of(self._recipe.name, error)
        return self._failure

    def settle(self) -> None:
        """Gives back memory that only the first run took, such as a compiler's."""
        resident.give_back()

    def open(self, session: str, options: SessionOptions, seq: int = 0) -> Failure | None:
        """Opens ``session``, whose first batch is ``seq``."""
        try:
            self._loaded().open(session, options, seq)
        except Exception as error:
            return Failure.of(self._recipe.name, error)
        return None

    def run(self, *batches: list[Packet]) -> list[Packet]:
        """Feeds packets, one of each session; they come out with what became of their items.

        A failure drops its session here and is passed on.
        """
        packets = [packet for batch in batches for packet in batch]
        out = self._step(packets)
        return [p._replace(items=self._ended(p, out.get(p.session, p.items))) for p in packets]

    def drop(self, session: str) -> None:
        if self._host is not None:
            self._host.drop(session)

    def sessions(self) -> list[str]:
        return [] if self._host is None else self._host.sessions

    def _step(self, packets: list[Packet]) -> Mapping[str, Batch | Exception]:
        """What became of the items of each session that has not failed before."""
        batches = [(p.session, p.seq, p.items) for p in packets if not isinstance(p.items, Failure)]
        names = [session for session, _, _ in batches]
        if self._failure is not None:  # a stage that is made late may be needed before it is known
            return dict.fromkeys(names, self._failure)
        return dict(zip(names, self._loaded().step_many(batches), strict=True))

    def _ended(self, packet: Packet, out: Batch | Exception) -> Batch:
        """``out`` and, after the last batch, what was still held back."""
        try:
            if packet.last and isinstance(out, list):
                return out + self._loaded().close(packet.session)
        except Exception as error:
            out = error
        if isinstance(out, Exception):
            out = Failure.of(self._recipe.name, out)
        if isinstance(out, Failure):
            self.drop(packet.session)
        return out

    def _loaded(self) -> StageHost[Any, Any, Any]:
        assert self._host is not None, "load comes first"
        return self._host
