"""A chain of stages and the sessions that run through it, whoever carries the calls.

`Graph` puts each stage in a Ray actor, `Local` keeps them in this process; both only say how a call
is made, so a session takes the same path through either. A batch that fails becomes a value, a
`Failure`, that travels down the chain in place of messages: every stage it passes forgets the
session, no exception has to survive pickling, and the other sessions notice nothing.

Pictures travel with the speech they belong to, so the way of a session with a video has one more
stage, the lane of `look`. It is made for the first picture of any session, and a session turns into
it with its own first picture: sound alone never loads it.
"""

import json
import os
import threading
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
        self._failure: Failure | None = None

    def load(self) -> Failure | None:
        """Makes the stage: reads weights, so it may take long."""
        try:
            self._host = StageHost(self._recipe.make())
        except Exception as error:
            self._failure = Failure.of(self._recipe.name, error)
        return self._failure

    def open(self, session: str, options: SessionOptions) -> Failure | None:
        try:
            self._loaded().open(session, options)
        except Exception as error:
            return Failure.of(self._recipe.name, error)
        return None

    def step(self, session: str, seq: int, items: Batch) -> Batch:
        """Feeds batch ``seq`` of ``session``; a failure drops the session here and is passed on."""
        if isinstance(items, Failure):
            self.drop(session)
            return items
        if self._failure is not None:  # a stage that is made late may be needed before it is known
            return self._failure
        try:
            return self._loaded().step(session, seq, items)
        except Exception as error:
            self.drop(session)
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
        if self._host is not None:
            self._host.drop(session)

    def sessions(self) -> list[str]:
        return [] if self._host is None else self._host.sessions

    def _loaded(self) -> StageHost[Any, Any, Any]:
        assert self._host is not None, "load comes first"
        return self._host


class Chain(ABC):
    """Stages in a row, from `Chunk` to `Caption`; many sessions may be open at once.

    ``model`` is the name that screens show, ``look`` how the stage that looks at pictures is made;
    without it pictures are only named.
    """

    def __init__(self, model: str, look: Recipe | None = None) -> None:
        self.model, self._look = model, look
        self._straight = range(0)  # the links of sound, once they are loaded
        self._lane: int | None = None  # the link of `look`, once it is made
        self._turning = threading.Lock()
        self._options: dict[str, SessionOptions] = {}  # of open sessions
        self._turned: dict[str, int] = {}  # by session, the first batch that went through the lane

    @abstractmethod
    def _call(self, link: int, method: str, *args: Any) -> Any:
        """Calls a method of a link, after all earlier calls to it; a handle may be an argument."""

    @abstractmethod
    def _future(self, handle: Any) -> Future:
        """The result of a call."""

    @abstractmethod
    def _add(self, recipe: Recipe) -> int:
        """Adds a link that is not loaded yet; returns its number. Does not wait."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of links."""

    @abstractmethod
    def stop(self) -> None:
        """Ends the pipeline, with every session that is still open."""

    def open(self, session: str, options: SessionOptions) -> None:
        """Opens ``session`` in every stage; raises PipelineError, and leaves nothing open then."""
        for link in self._straight:
            failure = self._result(link, "open", session, options)
            if isinstance(failure, Failure):
                for opened in range(link):
                    self._call(opened, "drop", session)
                raise _error(session, failure)
        self._options[session] = options

    def step(self, session: str, seq: int, chunk: Chunk) -> Future:
        """Sends ``chunk`` down the chain as batch ``seq``; :meth:`outcome` reads the result."""
        if chunk.pictures:
            self._turn(session, seq)
        return self._through("step", session, seq, [chunk])

    def finish(self, session: str, seq: int) -> Future:
        """Ends ``session``: each stage's remainder goes through the stages after it."""
        last = self._through("finish", session, seq, [])
        self._forget(session)
        return last

    def drop(self, session: str) -> None:
        """Forgets ``session`` in every stage, without its last captions."""
        self._forget(session)
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
        self._straight = range(len(self))
        handles = [self._call(link, "load") for link in self._straight]
        for handle in handles:
            failure = self._wait(handle)
            if isinstance(failure, Failure):
                raise PipelineError(failure.message, failure.stage, failure.kind, failure.trace)
        self._warm_up()

    def _warm_up(self) -> None:
        session, heads = "warm-up", [[Chunk(0, _noise(CHUNK_SAMPLES))], _utterance()]
        self.open(session, SessionOptions(max_answer_tokens=4))
        batch: Any = []
        for link in self._straight:
            batch = self._call(link, "finish", session, 0, heads[link] if link < 2 else batch)
            failure = self._wait(batch)
            if isinstance(failure, Failure):
                self.drop(session)
                raise _error(session, failure)
        self._forget(session)

    def _through(self, method: str, session: str, seq: int, items: Any) -> Future:
        turned = self._turned.get(session)
        for link in self._straight:
            items = self._call(link, method, session, seq, items)
            if link == 0 and self._lane is not None and turned is not None:
                items = self._call(self._lane, method, session, seq - turned, items)
        return self._future(items)

    def _turn(self, session: str, seq: int) -> None:
        """Leads ``session`` through the lane from batch ``seq`` on."""
        with self._turning:
            options = self._options.get(session)
            if self._look is None or options is None or session in self._turned:
                return
            if self._lane is None:
                self._lane = self._add(self._look)
                self._call(self._lane, "load")  # a failure comes out of the lane's first batch
            self._call(self._lane, "open", session, options)
            self._turned[session] = seq

    def _forget(self, session: str) -> None:
        with self._turning:
            self._options.pop(session, None)
            self._turned.pop(session, None)

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
    threads = _decoder_threads() if threads is None else threads
    gpus = 0.4 if device.startswith("cuda") else 0.0
    model = _from_anywhere(model)
    return (
        Recipe("segment", _segment),
        Recipe("encode", partial(_encode, model, device), 1, gpus),
        Recipe("translate", partial(_translate, model, device), threads, gpus),
    )


def look_recipe(model: str, device: str = "cpu", threads: int | None = None) -> Recipe | None:
    """The stage that looks at pictures; None when ``model`` has no eyes."""
    model = _from_anywhere(model)
    if _is_blind(model):
        return None
    # The decoder waits while a picture is looked at: the threads are free for it.
    threads = _decoder_threads() if threads is None else threads
    gpus = 0.2 if device.startswith("cuda") else 0.0
    return Recipe("look", partial(_look, model, device), threads, gpus)


def use_threads(wanted: Sequence[int]) -> None:
    """Gives torch the most threads that any of the stages in this process wants."""
    if any(wanted):
        import torch

        torch.set_num_threads(max(wanted))


def _segment() -> Stage[Any, Any, Any]:
    from stages.illustrate import IllustrateStage
    from stages.segment import SegmentStage

    return IllustrateStage(SegmentStage())


def _look(model: str, device: str) -> Stage[Any, Any, Any]:
    from stages.look import LookStage

    return LookStage.load(model, device=device)


def _encode(model: str, device: str) -> Stage[Any, Any, Any]:
    from stages.encode import EncodeStage

    return EncodeStage.load(model, device=device)


def _translate(model: str, device: str) -> Stage[Any, Any, Any]:
    from stages.translate import TranslateStage

    return TranslateStage.load(model, device=device)


def _decoder_threads() -> int:
    return max(1, min(4, len(os.sched_getaffinity(0)) - 1))


def _is_blind(model: str) -> bool:
    """Whether the model's configuration is here and has no vision tower; cheap, without torch."""
    folder = Path(model) if Path(model).is_absolute() else ROOT / "models" / model
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # on another machine, or a fault that loading will explain
        return False
    return isinstance(config, dict) and not config.get("vision_config")


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
