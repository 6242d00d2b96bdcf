"""The contract every stage speaks, and the host that keeps the state of its open sessions.

A stage holds weights and settings; the state of a stream lives with the caller. A host is the one
mutable home of state: it keeps one state per open session, refuses gaps in the sequence, and a
session that fails is closed without touching the others. A Ray actor wraps one host.

Unusual: a stage may offer to step many streams at once, where that is cheaper than one by one; then
it is always asked so. What comes out is the same either way, and a stream that fails still fails
alone.
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
class _Batch(Generic[In, Out, StateT]):
    """A batch under way: what is left of it, and what came of it so far."""

    session: str
    seq: int
    state: StateT
    rest: list[In]
    out: list[Out] = field(default_factory=list[Out])
    error: Exception | None = None


class StageHost(Generic[In, Out, StateT]):
    """One stage and its open sessions."""

    def __init__(self, stage: Stage[In, Out, StateT]) -> None:
        self._stage = stage
        self._batch_stage = stage if isinstance(stage, BatchStage) else None
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
        begun = [self._begin(*batch) for batch in batches]
        under_way = [batch for batch in begun if isinstance(batch, _Batch)]
        while moving := [batch for batch in under_way if batch.rest]:
            items = [batch.rest.pop(0) for batch in moving]
            stepped = self._stepped(items, [batch.state for batch in moving])
            for batch, result in zip(moving, stepped, strict=True):
                if isinstance(result, Exception):
                    batch.error, batch.rest = result, []
                else:
                    out, batch.state = result
                    batch.out += out
        for batch in under_way:
            if batch.error is None:
                self._open[batch.session] = batch.state, batch.seq + 1
        return [(b.error or b.out) if isinstance(b, _Batch) else b for b in begun]

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
    ) -> _Batch[In, Out, StateT] | SessionError:
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
        return _Batch(session, seq, state, list(items))

    def _stepped(
        self, items: list[In], states: list[StateT]
    ) -> Sequence[tuple[list[Out], StateT] | Exception]:
        """One message of each of several streams through the stage; a failure becomes a value."""
        if self._batch_stage is not None:
            try:
                return self._batch_stage.step_batch(items, states)
            except Exception as error:  # against its contract: nobody knows what became of states
                return [error] * len(items)
        stepped: list[tuple[list[Out], StateT] | Exception] = []
        for item, state in zip(items, states, strict=True):
            try:
                stepped.append(self._stage.step(item, state))
            except Exception as error:
                stepped.append(error)
        return stepped
