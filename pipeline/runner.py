"""Runs a route of stages with many open sessions: what an actor holds, wherever it lives.

Live captions have an actor for each stage; a batch has replicas of all stages behind the segmenter
in one actor each. Unusual: a batch that fails becomes a value, a `Failure`, that travels on in
place of messages. Every stage it passes forgets the session, no exception has to survive pickling,
and the other sessions notice nothing.
"""

import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dragoman.errors import FAILED, PipelineError, exit_code
from dragoman.models import resident
from dragoman.pipeline.recipes import Recipe
from dragoman.stages.contract import Stage, StageHost
from dragoman.stages.messages import SessionOptions


class ActorDied(PipelineError):
    """The process of an actor ended, with what it had not answered."""


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
        made = ActorDied if self.kind == ActorDied.__name__ else PipelineError
        return made(
            message if where else self.message, self.stage, self.kind, self.trace, self.exit_code
        )


Batch = list[Any] | Failure
ENDED = "the process of a stage ended (killed, or out of memory): start again"


class Packet(NamedTuple):
    """What a session sends along its route: batch ``seq`` of its messages.

    With ``options`` it opens the session in every stage where that is not open yet; ``last`` ends
    it.
    """

    session: str
    seq: int
    items: Batch
    last: bool = False
    options: SessionOptions | None = None


class _Hosted:
    """A loaded stage, its sessions, and its name in failures."""

    def __init__(self, name: str, stage: Stage[Any, Any, Any]) -> None:
        self.name, self.sessions = name, StageHost(stage)
        self._leaves_holes = getattr(stage, "leaves_holes", False)

    def run(self, packets: Sequence[Packet]) -> list[Packet]:
        """Feeds packets; a failure drops its session here and is passed on."""
        opened = [self._opened(packet) if packet.options else packet for packet in packets]
        batches = [(p.session, p.seq, p.items) for p in opened if not isinstance(p.items, Failure)]
        out = dict(zip((b[0] for b in batches), self.sessions.step_many(batches), strict=True))
        if self._leaves_holes and any(map(bool, out.values())):
            resident.trim()
        stepped = [(p, out.get(p.session, p.items)) for p in opened]
        return [
            p._replace(items=made)
            if isinstance(made, list) and not p.last
            else p._replace(items=self._ended(p, made))
            for p, made in stepped
        ]

    def _opened(self, packet: Packet) -> Packet:
        """``packet``, with its session open; with a failure where that cannot be opened."""
        assert packet.options is not None
        if isinstance(packet.items, Failure) or packet.session in self.sessions:
            return packet
        try:
            self.sessions.open(packet.session, packet.options, packet.seq)
        except Exception as error:
            return packet._replace(items=Failure.of(self.name, error))
        return packet

    def _ended(self, packet: Packet, out: Batch | Exception) -> Batch:
        """Of the last batch ``out`` and what was still held back; of a failed one, that."""
        try:
            if packet.last and isinstance(out, list):
                return out + self.sessions.close(packet.session)
        except Exception as error:
            out = error
        if isinstance(out, Exception):
            out = Failure.of(self.name, out)
        if isinstance(out, Failure):
            self.sessions.drop(packet.session)
        return out


class Runner:
    """A route of stages and their open sessions. Never raises."""

    def __init__(self, recipes: Sequence[Recipe], successor: bool = False) -> None:
        """``successor``: another process ended, and took its sessions along."""
        self.recipes, self._successor = recipes, successor
        self._stages: list[_Hosted] = []
        self._failure: Failure | None = None

    def load(self) -> Failure | None:
        """Makes the stages: reads weights, so it may take long."""
        self._stages, self._failure = [], None
        for recipe in self.recipes:
            try:
                self._stages.append(_Hosted(recipe.name, recipe.made()))
            except Exception as error:
                self._failure = Failure.of(recipe.name, error)
                break
        return self._failure

    def settle(self) -> None:
        """Gives back memory that only the first run took, such as a compiler's."""
        resident.give_back()

    def run(self, *batches: list[Packet]) -> list[Packet]:
        """Feeds packets, one of each session; they come out with what became of their items."""
        packets = [packet for batch in batches for packet in batch]
        if self._failure is not None and any(packet.options for packet in packets):
            self.load()  # again: what was missing may be there for a new session
        if self._failure is not None:
            return [
                p if isinstance(p.items, Failure) else p._replace(items=self._failure)
                for p in packets
            ]
        if self._successor:
            packets = [packet._replace(items=self._remembered(packet)) for packet in packets]
        for stage in self._stages:
            packets = stage.run(packets)
        return packets

    def _remembered(self, packet: Packet) -> Batch:
        """The items of ``packet``; a failure where its session was open in the last process."""
        if packet.options or isinstance(packet.items, Failure):
            return packet.items
        if any(packet.session in stage.sessions for stage in self._stages):
            return packet.items
        names = ", ".join(stage.name for stage in self._stages)
        return Failure(names, ActorDied.__name__, ENDED, "")

    def drop(self, session: str) -> None:
        for stage in self._stages:
            stage.sessions.drop(session)

    def sessions(self) -> list[str]:
        """The names open in any stage."""
        return sorted({name for stage in self._stages for name in stage.sessions.names})

    def pid(self) -> int:
        """The process that this is in."""
        return os.getpid()
