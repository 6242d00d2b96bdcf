"""A chain of stages and the sessions that run through it, whoever carries the calls.

`Graph` puts each stage in a Ray actor, `Local` keeps them in this process; both only say how a call
is made, so a session takes the same path through either. A batch that fails becomes a value, a
`Failure`, that travels down the chain in place of messages: every stage it passes forgets the
session, no exception has to survive pickling, and the other sessions notice nothing.
"""

import os
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stages.contract import Stage, StageHost
from stages.messages import CHUNK_SAMPLES, Caption, Chunk, SessionOptions, Speech

ROOT = Path(__file__).resolve().parents[1]


class PipelineError(RuntimeError):
    """A session, or the pipeline under it, failed.

    ``stage`` names where, ``kind`` the class of the error there, ``trace`` its traceback as text.
    """

    def __init__(self, message: str, stage: str = "", kind: str = "", trace: str = "") -> None:
        super().__init__(message)
        self.stage, self.kind, self.trace = stage, kind, trace


@dataclass(frozen=True)
class Failure:
    """What came of a batch that a stage could not handle."""

    stage: str
    kind: str
    message: str
    trace: str

    @classmethod
    def of(cls, stage: str, error: Exception) -> "Failure":
        trace = "".join(traceback.format_exception(error))
        return cls(stage, type(error).__name__, str(error), trace)


Batch = list[Any] | Failure


@dataclass(frozen=True)
class Recipe:
    """How a stage is made, in the process that will own it.

    ``make`` imports what it needs itself; ``threads`` is for torch, 0 where the stage has none;
    ``gpus`` is the share of an accelerator that a Ray actor asks for.
    """

    name: str
    make: Callable[[], Stage[Any, Any, Any]]
    threads: int = 0
    gpus: float = 0.0


class Link:
    """One stage of a chain and its open sessions: what a Ray actor holds. Never raises."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._host: StageHost[Any, Any, Any] | None = None

    def load(self) -> Failure | None:
        """Makes the stage: reads weights, so it may take long."""
        try:
            self._host = StageHost(self._recipe.make())
        except Exception as error:
            return Failure.of(self._recipe.name, error)
        return None

    def open(self, session: str, options: SessionOptions) -> Failure | None:
        try:
            self._loaded().open(session, options)
        except Exception as error:
            return Failure.of(self._recipe.name, error)
        return None

    def step(self, session: str, seq: int, items: Batch) -> Batch:
        """Feeds batch ``seq`` of ``session``; a failure drops the session here and is passed on."""
        if isinstance(items, Failure):
            self._loaded().drop(session)
            return items
        try:
            return self._loaded().step(session, seq, items)
        except Exception as error:
            self._loaded().drop(session)
            return Failure.of(self._recipe.name, error)

    def finish(self, session: str, seq: int, items: Batch) -> Batch:
        """Feeds the last batch and ends ``session``: its output and what was still held back."""
        out = self.step(session, seq, items)
        if isinstance(out, Failure):
            return out
        try:
            return out + self._loaded().close(session)
        except Exception as error:
            return Failure.of(self._recipe.name, error)

    def drop(self, session: str) -> None:
        self._loaded().drop(session)

    def sessions(self) -> list[str]:
        return self._loaded().sessions

    def _loaded(self) -> StageHost[Any, Any, Any]:
        assert self._host is not None, "load comes first"
        return self._host


class Chain(ABC):
    """Stages in a row, from `Chunk` to `Caption`; many sessions may be open at once.

    ``model`` is the name that screens show.
    """

    model: str

    @abstractmethod
    def _call(self, link: int, method: str, *args: Any) -> Any:
        """Calls a method of a link, after all earlier calls to it; a handle may be an argument."""

    @abstractmethod
    def _future(self, handle: Any) -> Future:
        """The result of a call."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of links."""

    @abstractmethod
    def stop(self) -> None:
        """Ends the pipeline, with every session that is still open."""

    def open(self, session: str, options: SessionOptions) -> None:
        """Opens ``session`` in every stage; raises PipelineError, and leaves nothing open then."""
        for link in range(len(self)):
            failure = self._result(link, "open", session, options)
            if isinstance(failure, Failure):
                for opened in range(link):
                    self._call(opened, "drop", session)
                raise _error(session, failure)

    def step(self, session: str, seq: int, chunk: Chunk) -> Future:
        """Sends ``chunk`` down the chain as batch ``seq``; :meth:`outcome` reads the result."""
        return self._through("step", session, seq, [chunk])

    def finish(self, session: str, seq: int) -> Future:
        """Ends ``session``: each stage's remainder goes through the stages after it."""
        return self._through("finish", session, seq, [])

    def drop(self, session: str) -> None:
        """Forgets ``session`` in every stage, without its last captions."""
        for link in range(len(self)):
            self._call(link, "drop", session)

    def sessions(self) -> list[str]:
        """The names open in any stage."""
        return sorted(
            {name for link in range(len(self)) for name in self._result(link, "sessions")}
        )

    def outcome(self, session: str, future: Future) -> list[Caption]:
        """The captions of one batch; raises PipelineError when a stage or its process failed."""
        try:
            batch = future.result()
        except Exception as error:
            raise self._broken(session, error) from error
        if isinstance(batch, Failure):
            raise _error(session, batch)
        return batch

    def load(self) -> None:
        """Loads all stages at the same time, then runs a moment of noise through each.

        The first call of a model is slow (allocations, kernel choice): nobody shall wait for it
        in front of a caption. Raises PipelineError.
        """
        handles = [self._call(link, "load") for link in range(len(self))]
        for handle in handles:
            failure = self._wait(handle)
            if isinstance(failure, Failure):
                raise PipelineError(failure.message, failure.stage, failure.kind, failure.trace)
        self._warm_up()

    def _warm_up(self) -> None:
        session, heads = "warm-up", [[Chunk(0, _noise(CHUNK_SAMPLES))], _utterance()]
        self.open(session, SessionOptions(max_answer_tokens=4))
        batch: Any = []
        for link in range(len(self)):
            batch = self._call(link, "finish", session, 0, heads[link] if link < 2 else batch)
            failure = self._wait(batch)
            if isinstance(failure, Failure):
                self.drop(session)
                raise _error(session, failure)

    def _through(self, method: str, session: str, seq: int, items: Any) -> Future:
        for link in range(len(self)):
            items = self._call(link, method, session, seq, items)
        return self._future(items)

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


def recipes(model: str, device: str = "cpu", threads: int | None = None) -> tuple[Recipe, ...]:
    """The stages of live captions: segment, encode, translate.

    ``threads`` is for the decoder, the stage that needs them; by default all cores but one, which
    the encoder keeps.
    """
    if threads is None:
        threads = max(1, min(4, len(os.sched_getaffinity(0)) - 1))
    gpus = 0.5 if device.startswith("cuda") else 0.0
    model = _from_anywhere(model)
    return (
        Recipe("segment", _segment),
        Recipe("encode", partial(_encode, model, device), 1, gpus),
        Recipe("translate", partial(_translate, model, device), threads, gpus),
    )


def use_threads(wanted: Sequence[int]) -> None:
    """Gives torch the most threads that any of the stages in this process wants."""
    if any(wanted):
        import torch

        torch.set_num_threads(max(wanted))


def _segment() -> Stage[Any, Any, Any]:
    from stages.segment import SegmentStage

    return SegmentStage()


def _encode(model: str, device: str) -> Stage[Any, Any, Any]:
    from stages.encode import EncodeStage

    return EncodeStage.load(model, device=device)


def _translate(model: str, device: str) -> Stage[Any, Any, Any]:
    from stages.translate import TranslateStage

    return TranslateStage.load(model, device=device)


def _from_anywhere(model: str) -> str:
    """A folder's path, made absolute for processes that run elsewhere; a bundled name as it is."""
    bundled = Path(model).name == model and (ROOT / "models" / model / "config.json").is_file()
    folder = Path(model).expanduser()
    return str(folder.resolve()) if folder.is_dir() and not bundled else model


def _error(session: str, failure: Failure) -> PipelineError:
    return PipelineError(
        f"session {session!r} failed in stage {failure.stage!r}: {failure.kind}: {failure.message}",
        failure.stage,
        failure.kind,
        failure.trace,
    )


def _noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.01, samples).astype(np.float32)


def _utterance() -> list[Speech]:
    """Three chunks of faint noise as a segment: opened, updated, closed."""
    starts = range(0, 3 * CHUNK_SAMPLES, CHUNK_SAMPLES)
    pieces = [Speech(0, start, _noise(CHUNK_SAMPLES), opens=start == 0) for start in starts]
    return [*pieces, Speech(0, 3 * CHUNK_SAMPLES, _noise(0), closes=True)]
