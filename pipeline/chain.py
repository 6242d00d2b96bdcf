"""A chain of stages and the sessions that run through it, whoever carries the calls.

`Graph` puts each stage in a Ray actor, `Local` keeps them in this process; both only say how a call
is made, so a session takes the same path through either. :mod:`pipeline.dispatch` carries the
chunks of all sessions from link to link.

Pictures travel with the speech they belong to, so the way of a session with a video has one more
stage, the lane of `look`. It is made for the first picture of any session, and a session turns into
it with its own first picture: sound alone never loads it.
"""

import threading
from abc import ABC, abstractmethod
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from typing import Any, Self

import numpy as np

from dragoman.errors import PipelineError, SessionError
from dragoman.pipeline.dispatch import Dispatcher
from dragoman.pipeline.link import Failure, Packet
from dragoman.pipeline.recipes import Recipe
from dragoman.stages.messages import CHUNK_SAMPLES, Caption, Chunk, SessionOptions, Speech


@dataclass
class _Opened:
    """An open session: ``route`` are the links it goes through, ``key`` its name there: not its
    own, as one that was dropped and opened again may meet there what is on its way of the first.
    """

    key: str
    options: SessionOptions
    route: tuple[int, ...]


class Chain(ABC):
    """Stages in a row, from `Chunk` to `Caption`; many sessions may be open at once.

    ``model`` is the name that screens show, ``look`` how the stage that looks at pictures is made;
    without it pictures are only named.
    """

    def __init__(self, model: str, look: Recipe | None = None) -> None:
        self.model, self._look = model, look
        self._straight: tuple[int, ...] = ()  # the links of sound, once they are loaded
        self._lane: int | None = None  # the link of `look`, once it is made
        self._opened: dict[str, _Opened] = {}
        self._changing = threading.Lock()  # of the two above
        self._numbers = count()
        self._stopped = False
        self._dispatcher = Dispatcher(self._start)

    @abstractmethod
    def _call(self, link: int, method: str, *args: Any) -> Any:
        """Calls a method of a link, after all earlier calls to it; gives a handle of the result."""

    @abstractmethod
    def _start(self, link: int, batches: list[Any], last: bool) -> tuple[Any, Future]:
        """Calls `Link.run` with batches of packets, or handles of such: see `Dispatcher`."""

    @abstractmethod
    def _future(self, handle: Any) -> Future:
        """The result of a call."""

    @abstractmethod
    def _add(self, recipe: Recipe) -> int:
        """Adds a link that is not loaded yet; returns its number. Does not wait."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of links."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the pipeline, with every session that is still open."""
        self._stopped = True
        self._dispatcher.stop()

    def open(self, session: str, options: SessionOptions) -> None:
        """Opens ``session`` in every stage; raises PipelineError, and leaves nothing open then."""
        if self._stopped:
            raise PipelineError("the pipeline was stopped: start another")
        with self._changing:
            if session in self._opened:
                raise PipelineError(
                    f"session {session!r} is already open: close it, or take a new name"
                )
            key = f"{session}/{next(self._numbers)}"
            self._opened[session] = _Opened(key, options, self._straight)
        try:
            for link in self._straight:
                failure = self._result(link, "open", key, options)
                if isinstance(failure, Failure):
                    raise failure.error(f"session {session!r} failed")
        except BaseException:
            self.drop(session)
            raise

    def step(self, session: str, seq: int, *chunks: Chunk) -> Future:
        """Sends ``chunks`` down the chain as batch ``seq``; :meth:`outcome` reads the result."""
        if any(chunk.pictures for chunk in chunks):
            self._turn(session, seq)
        return self._send(session, seq, list(chunks))

    def finish(self, session: str, seq: int) -> Future:
        """Ends ``session``: each stage's remainder goes through the stages after it."""
        last = self._send(session, seq, [], last=True)
        with self._changing:
            opened = self._opened.pop(session, None)
        # What did not come through has not told the links behind it that the session is over.
        last.add_done_callback(lambda done: self._forget(opened) if done.exception() else None)
        return last

    def drop(self, session: str) -> None:
        """Forgets ``session`` in every stage, without its last captions."""
        with self._changing:
            opened = self._opened.pop(session, None)
        self._forget(opened)

    def _forget(self, opened: _Opened | None) -> None:
        if opened is not None and not self._stopped:
            self._dispatcher.forget(opened.key)
            for link in range(len(self)):
                self._call(link, "drop", opened.key)

    def sessions(self) -> list[str]:
        """The names open in any stage."""
        links = range(len(self))
        keys = {key for link in links for key in self._result(link, "sessions")}
        return sorted({key.rpartition("/")[0] for key in keys})

    def outcome(self, session: str, future: Future) -> list[Caption]:
        """The captions of one batch; raises PipelineError when a stage or its process failed."""
        try:
            batch = future.result()
        except Exception as error:
            raise self._broken(session, error) from error
        if isinstance(batch, Failure):
            raise batch.error(f"session {session!r} failed")
        return batch

    def load(self) -> None:
        """Loads all stages at the same time, then runs a moment of noise through each.

        The first call of a model is slow (allocations, kernel choice): nobody shall wait for it
        in front of a caption. Raises PipelineError.
        """
        self._straight = tuple(range(len(self)))
        handles = [self._call(link, "load") for link in self._straight]
        for handle in handles:
            failure = self._wait(handle)
            if isinstance(failure, Failure):
                raise failure.error()
        self._warm_up()
        for link in self._straight:
            self._result(link, "settle")

    def _warm_up(self) -> None:
        """Noise for the first link, and as it is not speech, an utterance for those behind it."""
        session = "warm-up"
        self.open(session, SessionOptions(max_answer_tokens=4))
        key = self._opened[session].key
        ways = (
            ([Chunk(0, _noise(CHUNK_SAMPLES))], self._straight[:1]),
            (_utterance(), self._straight[1:]),
        )
        try:
            for items, route in ways:
                packet = Packet(key, 0, items, last=True)
                self.outcome(session, self._dispatcher.send(packet, route))
        finally:
            self.drop(session)

    def _send(self, session: str, seq: int, items: list[Chunk], last: bool = False) -> Future:
        opened = self._opened.get(session)
        if opened is not None:
            return self._dispatcher.send(Packet(opened.key, seq, items, last), opened.route)
        refused: Future = Future()  # dropped, which its feeder may not have noticed yet
        refused.set_exception(SessionError(f"session {session!r} is not open: open it first"))
        return refused

    def _turn(self, session: str, seq: int) -> None:
        """Leads ``session`` through the lane from batch ``seq`` on."""
        with self._changing:
            opened = self._opened.get(session)
            if self._look is None or opened is None or opened.route != self._straight:
                return
            if self._lane is None:
                self._lane = self._add(self._look)
                self._call(self._lane, "load")  # a failure comes out of the lane's first batch
            self._call(self._lane, "open", opened.key, opened.options, seq)
            opened.route = (self._straight[0], self._lane, *self._straight[1:])

    def _result(self, link: int, method: str, *args: Any) -> Any:
        return self._wait(self._call(link, method, *args))

    def _wait(self, handle: Any) -> Any:
        try:
            return self._future(handle).result()
        except Exception as error:
            raise self._broken("", error) from error

    def _broken(self, session: str, error: Exception) -> PipelineError:
        where = f"session {session!r} was lost: " if session else ""
        return PipelineError(f"{where}{type(error).__name__}: {error}", kind=type(error).__name__)


def _noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.01, samples).astype(np.float32)


def _utterance() -> list[Speech]:
    """Three chunks of faint noise as a segment: opened, updated, closed."""
    starts = range(0, 3 * CHUNK_SAMPLES, CHUNK_SAMPLES)
    pieces = [Speech(0, start, _noise(CHUNK_SAMPLES), opens=start == 0) for start in starts]
    return [*pieces, Speech(0, 3 * CHUNK_SAMPLES, _noise(0), closes=True)]
