"""A chain of stages, an actor each, and the sessions that run through it.

Between sessions, which find the speech in their sound themselves, and the actors, which turn it
into captions. Unusual: pictures travel with the speech they belong to, so the way of a session with
a video has one more stage, the lane of `look`. It is made for the first picture of any session, and
a session turns into it with its own first picture: sound alone never loads it.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Self

import numpy as np

from dragoman.errors import PipelineError, SessionError
from dragoman.pipeline.actors import ActorGroup, Host
from dragoman.pipeline.recipes import Recipe
from dragoman.pipeline.runner import ActorDied, Failure, Packet
from dragoman.stages.contract import Stage
from dragoman.stages.messages import CHUNK_SAMPLES, Caption, Chunk, SessionOptions, Speech


@dataclass
class _Opened:
    """An open session: ``key`` is its name on the way, not its own, as one that was dropped and
    opened again may meet there what is left of the first; ``route`` are the actors it goes through,
    ``sent`` the batches; ``finished`` says that the last one was.
    """

    key: str
    options: SessionOptions
    route: tuple[int, ...]
    sent: int = 0
    finished: bool = False


class Chain:
    """Stages in a row, from `Speech` to `Caption`; many sessions may be open at once.

    Made by :meth:`start`; a context manager, which stops it. ``segmenter`` is the stage in front of
    them, which each session steps itself; ``model`` is the name that screens show.
    """

    def __init__(
        self,
        host: Host,
        segmenter: Stage[Chunk, Speech, Any],
        look: Recipe | None = None,
        model: str = "",
    ) -> None:
        self.segmenter, self.model, self._look = segmenter, model, look
        self._actors = ActorGroup(host)
        self._straight: tuple[int, ...] = ()  # the actors of sound
        self._lane: int | None = None  # the actor of `look`, once it is made
        self._opened: dict[str, _Opened] = {}
        self._changing = threading.Lock()  # of the two above
        self._numbers = count()
        self._stopped = False

    @classmethod
    def start(
        cls, host: Host, stages: Sequence[Recipe], look: Recipe | None = None, model: str = ""
    ) -> Self:
        """Makes the first of ``stages``, the segmenter, here, loads the others on ``host`` and
        warms them up; without ``look``, the stage that looks at pictures, those are only named.
        Raises PipelineError.
        """
        segmenter, *behind = stages
        chain = cls(host, segmenter.made(), look, model)
        try:
            chain._load(host.fit(behind))
        except BaseException:
            chain.stop()
            raise
        return chain

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __len__(self) -> int:
        """The number of actors."""
        return len(self._actors)

    def stop(self) -> None:
        """Ends the pipeline, with every session that is still open."""
        self._stopped = True
        self._actors.stop()

    def open(self, session: str, options: SessionOptions) -> None:
        """Opens ``session`` in every stage; raises PipelineError, and leaves nothing open then.

        Each try may find one more process that has ended, for which there is another the next time.
        """
        for left in reversed(range(len(self._straight) + 1)):
            try:
                return self._open(session, options)
            except ActorDied:
                if not left:
                    raise
                self._actors.place()

    def prepare(self) -> None:
        """Gets ready for the death of a process, so that live captions do not wait for long."""
        self._actors.prepare()

    def step(
        self, session: str, *pieces: Speech, opens: bool = False, last: bool = False
    ) -> Future:
        """Sends the next ``pieces`` of ``session``; :meth:`outcome` reads what comes of them.

        ``opens``: the session is opened where it is not yet open; ``last``: it ends.
        """
        if any(piece.pictures for piece in pieces):
            opens = self._turn(session) or opens
        opened = self._opened.get(session)
        if opened is None:  # dropped, which its feeder may not have noticed yet
            refused: Future = Future()
            refused.set_exception(SessionError(f"session {session!r} is not open: open it first"))
            return refused
        options = opened.options if opens else None
        packet = Packet(opened.key, opened.sent, [*pieces], last, options)
        opened.sent += 1
        return self._actors.scheduler.send(packet, opened.route)

    def finish(self, session: str) -> Future:
        """Ends ``session``: each stage's remainder goes through the stages after it."""
        opened = self._opened.get(session)
        last = self.step(session, last=True)
        if opened is not None:
            opened.finished = True
            last.add_done_callback(partial(self._finished, session, opened))
        return last

    def drop(self, session: str) -> None:
        """Forgets ``session`` in every stage, without its last captions."""
        with self._changing:
            opened = self._opened.pop(session, None)
        self._forget(opened)

    def sessions(self) -> list[str]:
        """The names open in any stage."""
        keys = {key for found in self._actors.ask("sessions") for key in found}
        return sorted({key.rpartition("/")[0] for key in keys})

    def pids(self) -> list[int]:
        """The processes of the actors."""
        return self._actors.ask("pid")

    def outcome(self, session: str, future: Future) -> list[Caption]:
        """The captions of one batch; raises PipelineError when a stage failed, ActorDied when the
        process of one ended.
        """
        try:
            batch = future.result()
        except PipelineError:
            raise
        except Exception as error:
            kind = type(error).__name__
            raise PipelineError(
                f"session {session!r} was lost: {kind}: {error}", kind=kind
            ) from error
        if isinstance(batch, Failure):
            raise batch.error(f"session {session!r} failed")
        return batch

    def _open(self, session: str, options: SessionOptions) -> None:
        if self._stopped:
            raise PipelineError("the pipeline was stopped: start another")
        with self._changing:
            known = self._opened.get(session)
            if known is not None and not known.finished:
                raise PipelineError(
                    f"session {session!r} is already open: close it, or take a new name"
                )
            key = f"{session}/{next(self._numbers)}"
            self._opened[session] = _Opened(key, options, self._straight)
        try:
            self.outcome(session, self.step(session, opens=True))
        except BaseException:
            self.drop(session)
            raise

    def _turn(self, session: str) -> bool:
        """Leads ``session`` through the lane from now on; False where it goes there already."""
        with self._changing:
            opened = self._opened.get(session)
            if self._look is None or opened is None or opened.route != self._straight:
                return False
            if self._lane is None:
                self._lane = self._actors.add([self._look])
                self._actors.load_later(self._lane)
            opened.route = (self._lane, *self._straight)
            return True

    def _finished(self, session: str, opened: _Opened, last: Future) -> None:
        with self._changing:
            if self._opened.get(session) is opened:
                del self._opened[session]
        if last.exception():  # then the stages behind do not know that the session is over
            self._forget(opened)

    def _forget(self, opened: _Opened | None) -> None:
        if opened is not None and not self._stopped:
            self._actors.forget(opened.key)

    def _load(self, stages: Sequence[Recipe]) -> None:
        """Loads all stages at the same time, then runs a moment of noise through them.

        The first call of a model is slow (allocations, kernel choice): nobody shall wait for it in
        front of a caption.
        """
        self._straight = tuple(self._actors.add([stage]) for stage in stages)
        self._actors.load()
        session = "warm-up"
        self.open(session, SessionOptions(max_answer_tokens=4))
        try:
            self.outcome(session, self.step(session, *_utterance()))
        finally:
            self.drop(session)
        self._actors.ask("settle")


def _noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.01, samples).astype(np.float32)


def _utterance() -> list[Speech]:
    """Three chunks of faint noise as a segment: opened, updated, closed."""
    starts = range(0, 3 * CHUNK_SAMPLES, CHUNK_SAMPLES)
    pieces = [Speech(0, start, _noise(CHUNK_SAMPLES), opens=start == 0) for start in starts]
    return [*pieces, Speech(0, 3 * CHUNK_SAMPLES, _noise(0), closes=True)]
