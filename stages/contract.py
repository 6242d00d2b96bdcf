"""The contract every stage speaks, and the host that keeps the state of its open sessions.

A stage holds weights and settings; the state of a stream lives with the caller. A host is the one
mutable home of state: it keeps one state per open session, refuses gaps in the sequence, and a
session that fails is closed without touching the others. A Ray actor wraps one host.

Unusual: a stage may offer to step many streams at once, where that is cheaper than one by one. What
comes out is the same either way, and a stream that fails still fails alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, runtime_checkable

from dragoman.errors import SessionError
from dragoman.stages.messages import SessionOptions

In = TypeVar("In")
Taken = TypeVar("Taken", contravariant=True)
Out = TypeVar("Out")
StateT = TypeVar("StateT")


class Stage(Protocol[Taken, Out, StateT]):
    """One step of the pipeline: plain Python, no Ray, threads or clock."""

    def init_state(self, options: SessionOptions) -> StateT:
        """The state of a new stream."""
        ...

    def step(self, item: Taken, state: StateT) -> tuple[list[Out], StateT]:
        """Takes one message; returns what follows from it, and the state to go on with."""
        ...

    def flush(self, state: StateT) -> list[Out]:
        """Ends the input; returns what was still held back."""
        ...


@runtime_checkable
class BatchStage(Stage[Taken, Out, StateT], Protocol[Taken, Out, StateT]):
    """A stage for which many streams cost less together than one by one."""

    def step_batch(
        self, items: Sequence[Taken], states: Sequence[StateT]
    ) -> list[tuple[list[Out], StateT] | Exception]:
        """`step` for one message of each of several streams, in any order of work.

        Returns one result for each, in order: what `step` would have returned, or the exception
        that it would have raised. Raises nothing that concerns some of the streams only.
        """
        ...


@dataclass
class _Run(Generic[In, Out, StateT]):
    """A batch under way: what is left of it, and what came of it so far."""

    state: StateT
    rest: list[In]
    out: list[Out] = field(default_factory=list[Out])
    error: Exception | None = None

    def take(self, stepped: tuple[list[Out], StateT] | Exception) -> None:
        if isinstance(stepped, Exception):
            self.error, self.rest = stepped, []
        else:
            produced, self.state = stepped
            self.out += produced


class StageHost(Generic[In, Out, StateT]):
    """One stage and its open sessions."""

    def __init__(self, stage: Stage[In, Out, StateT]) -> None:
        self._stage = stage
        self._open: dict[str, tuple[StateT, int]] = {}  # the state, and the next batch's number

    @property
    def names(self) -> list[str]:
        """The sessions that are open."""
        return list(self._open)

    def __contains__(self, session: str) -> bool:
        return session in self._open

    def open(self, session: str, options: SessionOptions, seq: int = 0) -> None:
        """Opens ``session``, whose first batch is ``seq``; raises SessionError if it is open."""
        if session in self._open:
            raise SessionError(f"session {session!r} is already open: close it, or take a new name")
        self._open[session] = self._stage.init_state(options), seq

    def step(self, session: str, seq: int, items: Sequence[In]) -> list[Out]:
        """Feeds ``items``, the batch number ``seq`` of ``session``; batches must come in order.

        A failure of the stage closes this session, and this session only; a batch out of order is
        refused and changes nothing.
        """
        (out,) = self.step_many([(session, seq, items)])
        if isinstance(out, Exception):
            raise out
        return out

    def step_many(
        self, batches: Sequence[tuple[str, int, Sequence[In]]]
    ) -> list[list[Out] | Exception]:
        """Feeds batches of different sessions together: what `step` gives, or raises, for each.

        A session that comes twice is refused the second time.
        """
        runs = [self._begin(*batch) for batch in batches]
        under_way = [run for run in runs if isinstance(run, _Run)]
        while moving := [run for run in under_way if run.rest]:
            items = [run.rest.pop(0) for run in moving]
            stepped = self._step(items, [run.state for run in moving])
            for run, result in zip(moving, stepped, strict=True):
                run.take(result)
        return [
            self._end(run, session, seq) if isinstance(run, _Run) else run
            for run, (session, seq, _) in zip(runs, batches, strict=True)
        ]

    def close(self, session: str) -> list[Out]:
        """Ends ``session`` and returns what was held back; an unknown session yields nothing."""
        if session not in self._open:
            return []
        state, _ = self._open.pop(session)
        return self._stage.flush(state)

    def drop(self, session: str) -> None:
        """Forgets ``session`` without flushing it."""
        self._open.pop(session, None)

    def _begin(
        self, session: str, seq: int, items: Sequence[In]
    ) -> _Run[In, Out, StateT] | SessionError:
        """Takes the session out until its batch is done: one that fails stays closed."""
        if session not in self._open:
            return SessionError(f"session {session!r} is not open: open it before its first step")
        state, expected = self._open[session]
        if seq != expected:
            return SessionError(
                f"session {session!r} expected batch {expected}, got {seq}: "
                "feed every batch once and in order, or reopen the session"
            )
        del self._open[session]
        return _Run(state, list(items))

    def _end(self, run: _Run[In, Out, StateT], session: str, seq: int) -> list[Out] | Exception:
        if run.error is not None:
            return run.error
        self._open[session] = run.state, seq + 1
        return run.out

    def _step(
        self, items: list[In], states: list[StateT]
    ) -> Sequence[tuple[list[Out], StateT] | Exception]:
        if len(items) > 1 and isinstance(self._stage, BatchStage):
            try:
                return self._stage.step_batch(items, states)
            except Exception as error:  # against its contract: nobody knows what became of states
                return [error] * len(items)
        return [self._step_one(item, state) for item, state in zip(items, states, strict=True)]

    def _step_one(self, item: In, state: StateT) -> tuple[list[Out], StateT] | Exception:
        try:
            return self._stage.step(item, state)
        except Exception as error:
            return error
