"""The contract every stage speaks, and the host that keeps the state of its open sessions.

A stage holds weights and settings; the state of a stream lives with the caller. A host is the one
mutable home of state: it keeps one state per open session, refuses gaps in the sequence, and a
session that fails is closed without touching the others. A Ray actor wraps one host.
"""

from typing import Generic, Protocol, TypeVar

from stages.messages import SessionOptions

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


class SessionError(RuntimeError):
    """A session was used against its contract: unknown, opened twice, or with a gap in ``seq``."""


class StageHost(Generic[In, Out, StateT]):
    """One stage and its open sessions."""

    def __init__(self, stage: Stage[In, Out, StateT]) -> None:
        self._stage = stage
        self._open: dict[str, tuple[StateT, int]] = {}  # the state, and the next batch's number

    @property
    def sessions(self) -> list[str]:
        return list(self._open)

    def open(self, session: str, options: SessionOptions) -> None:
        """Opens ``session``; raises SessionError when it is open already."""
        if session in self._open:
            raise SessionError(f"session {session!r} is already open: close it, or take a new name")
        self._open[session] = self._stage.init_state(options), 0

    def step(self, session: str, seq: int, items: list[In]) -> list[Out]:
        """Feeds ``items``, the batch number ``seq`` of ``session``; batches must come in order.

        A failure of the stage closes this session, and this session only; a batch out of order is
        refused and changes nothing.
        """
        if session not in self._open:
            raise SessionError(f"session {session!r} is not open: open it before its first step")
        state, expected = self._open[session]
        if seq != expected:
            raise SessionError(
                f"session {session!r} expected batch {expected}, got {seq}: "
                "feed every batch once and in order, or reopen the session"
            )
        del self._open[session]  # until the batch is done: a failed session stays closed
        out: list[Out] = []
        for item in items:
            produced, state = self._stage.step(item, state)
            out += produced
        self._open[session] = state, seq + 1
        return out

    def close(self, session: str) -> list[Out]:
        """Ends ``session`` and returns what was held back; an unknown session yields nothing."""
        if session not in self._open:
            return []
        state, _ = self._open.pop(session)
        return self._stage.flush(state)

    def drop(self, session: str) -> None:
        """Forgets ``session`` without flushing it."""
        self._open.pop(session, None)
