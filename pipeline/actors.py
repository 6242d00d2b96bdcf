"""Actors: runners of stages that take calls in order, wherever they live; and where they live.

`Host` is all that differs between one process (`InProcess`) and a Ray cluster
(:mod:`pipeline.ray_actors`): how an actor is spawned, placed, called and killed. What is above,
chains and batches, uses an `ActorGroup`, and knows of neither. A process that ends takes its
sessions with it; the next call of that actor meets a new process, which loads its stages first, and
tells those sessions.
"""

import contextlib
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from dragoman.pipeline.recipes import Recipe, use_threads
from dragoman.pipeline.runner import ActorDied, Failure, Runner
from dragoman.pipeline.scheduler import Scheduler

log = logging.getLogger(__name__)

TRIES = 3  # of loading


class Actor(ABC):
    """A `Runner` that takes one call after the other; ``alive`` is False once it is known dead."""

    alive = True

    @abstractmethod
    def call(self, method: str, *args: Any) -> Future:
        """Calls a method of the runner. The future raises ActorDied when its process ends."""

    @abstractmethod
    def run(self, batches: list[Any], last: bool) -> tuple[Any, Future]:
        """Calls `Runner.run` with batches of packets, or handles of such.

        Gives a handle of the packets that come out, and a future that tells when they are there
        (with ``last``: the packets themselves).
        """

    @abstractmethod
    def kill(self) -> None:
        """Ends the actor at once."""


class Host(ABC):
    """Where actors live."""

    @abstractmethod
    def fit(self, stages: Sequence[Recipe]) -> Sequence[Recipe]:
        """``stages``, each in an actor of its own, with the threads that they may have here."""

    @abstractmethod
    def replicas(self, stages: Sequence[Recipe], count: int | None) -> Sequence[Sequence[Recipe]]:
        """``stages`` for each of ``count`` actors that hold all of them; None: as many as fit."""

    @abstractmethod
    def spawn(self, stages: Sequence[Recipe], successor: bool = False) -> Actor:
        """An actor for ``stages``, which are not loaded yet; does not wait. ``successor`` says that
        it takes the place of one that has ended. Raises ActorDied for such a one where it has to
        wait for :meth:`recover`.
        """

    def recover(self) -> None:
        """Waits until actors can be spawned again, where what they live in had ended, too. Raises
        PipelineError.
        """
        return

    @abstractmethod
    def place(self, actors: Sequence[Actor]) -> None:
        """Waits until all have a process; raises PipelineError where there is no room."""

    def prepare(self) -> None:
        """Gets ready for an actor's death, where its successor would take long to start."""
        return

    @abstractmethod
    def close(self) -> None:
        """Gives back what was started for the actors."""


class _Here(Actor):
    """A runner in this process, which lives as long as that."""

    def __init__(self, runner: Runner, thread: ThreadPoolExecutor) -> None:
        self._runner, self._thread = runner, thread

    def call(self, method: str, *args: Any) -> Future:
        return self._thread.submit(getattr(self._runner, method), *args)

    def run(self, batches: list[Any], last: bool) -> tuple[Future, Future]:
        # What a handle stands for is there: nothing is started before.
        ready = [batch.result() if isinstance(batch, Future) else batch for batch in batches]
        packets = self._thread.submit(self._runner.run, *ready)
        return packets, packets

    def kill(self) -> None:
        """What it was called with is cancelled when its host closes."""


class InProcess(Host):
    """This process, without Ray: for debugging, small machines and tests.

    One thread runs all actors in turn, so the session that feeds them can still measure how far
    they lag, exactly as it does elsewhere.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stages")

    def fit(self, stages: Sequence[Recipe]) -> Sequence[Recipe]:
        use_threads(stages)
        return stages

    def replicas(self, stages: Sequence[Recipe], count: int | None) -> Sequence[Sequence[Recipe]]:
        """One, whatever was asked for: more would wait for one another."""
        return [self.fit(stages)]

    def spawn(self, stages: Sequence[Recipe], successor: bool = False) -> Actor:
        return _Here(Runner(stages, successor), self._thread)

    def place(self, actors: Sequence[Actor]) -> None:
        """They are here."""

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


class _Supervised:
    """An actor that is there again after its process ended."""

    def __init__(self, host: Host, stages: Sequence[Recipe]) -> None:
        self._host, self._stages = host, stages
        self._replacing = threading.Lock()  # of what follows
        self._killed = False
        self._actor = host.spawn(stages)

    def load(self) -> Future:
        return self._actor.call("load")

    def living(self) -> Actor:
        """The actor; a new one, which loads its stages first, where the last is known dead.

        Raises RuntimeError after :meth:`kill`, ActorDied where there is no room for another yet.
        """
        with self._replacing:
            if self._killed:
                raise RuntimeError("the pipeline was stopped")
            if not self._actor.alive:
                names = ", ".join(stage.name for stage in self._stages)
                log.info("the process of %s ended: a new one takes its place", names)
                self._actor.kill()
                self._actor = self._host.spawn(self._stages, successor=True)
                self.load()
            return self._actor

    def visit(self) -> None:
        """Waits for an answer, and so finds out where the process has ended meanwhile."""
        if self._actor.alive:
            with contextlib.suppress(ActorDied):
                self._actor.call("pid").result()

    def drop(self, session: str) -> None:
        if self._actor.alive:
            self._actor.call("drop", session)

    def kill(self) -> None:
        with self._replacing:
            self._killed = True
            self._actor.kill()


class ActorGroup:
    """Actors by number, and the scheduler that feeds them."""

    def __init__(self, host: Host, most: int | None = None) -> None:
        """``most`` sessions share a call; None: all that wait."""
        self._host = host
        self._actors: list[_Supervised] = []
        self.scheduler = Scheduler(self._run, most)

    def __len__(self) -> int:
        return len(self._actors)

    def add(self, stages: Sequence[Recipe]) -> int:
        """Adds an actor that is not loaded yet; returns its number. Does not wait."""
        self._actors.append(_Supervised(self._host, stages))
        return len(self._actors) - 1

    def load_later(self, actor: int) -> None:
        """Starts to load; a failure comes out of the first batch."""
        self._actors[actor].load()

    def load(self) -> None:
        """Places and loads all actors at the same time, anew where one ends meanwhile. Raises
        PipelineError.
        """
        for left in reversed(range(TRIES)):
            try:
                self.place()
                answers = [loaded.result() for loaded in [a.load() for a in self._actors]]
                break
            except ActorDied:
                if not left:
                    raise
        for failure in answers:
            if isinstance(failure, Failure):
                raise failure.error()

    def place(self) -> None:
        """Waits until all actors have a process, also those whose last one has ended."""
        self.recover()
        self._host.place([actor.living() for actor in self._actors])

    def recover(self) -> None:
        """Waits until actors whose process has ended can have another. Raises PipelineError."""
        self._host.recover()

    def prepare(self) -> None:
        """Gets ready for the death of an actor, so that its successor is there soon."""
        self._host.prepare()

    def visit(self, actor: int) -> None:
        """Finds out whether ``actor``, which is idle, still has a process; what is sent to it next
        meets a new one if not.
        """
        self._actors[actor].visit()

    def ask(self, method: str) -> list[Any]:
        """What a method of each runner gives."""
        return [future.result() for future in [a.living().call(method) for a in self._actors]]

    def forget(self, session: str) -> None:
        """Forgets ``session`` in every stage, and what of it has not set out."""
        self.scheduler.forget(session)
        for actor in self._actors:
            actor.drop(session)

    def stop(self) -> None:
        """Fails what is on its way, ends the actors and what was started for them."""
        self.scheduler.stop()
        for actor in self._actors:
            actor.kill()
        self._host.close()

    def _run(self, actor: int, batches: list[Any], last: bool) -> tuple[Any, Future]:
        return self._actors[actor].living().run(batches, last)
