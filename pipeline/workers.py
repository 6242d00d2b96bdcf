"""A pool of Ray actors that turn whole segments into captions, and outlives the death of any one.

Each actor loads the stages behind the segmenter once, and the one that looks at pictures with its
first segment that has some: sound alone never loads it. A segment is independent of all others, so
any actor may take it, and take it again: one whose process ends is replaced, and what it had not
finished is given out anew. Only the segment it was working on can be to blame, and is given up
after a few deaths; Ray's own retries would charge the segment that waited behind it as well.
"""

import contextlib
import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dragoman import system
from dragoman.errors import PipelineError
from dragoman.pipeline.graph import PLACEMENT_S, check_gpus, connect, exceptions, ray
from dragoman.pipeline.link import Failure
from dragoman.pipeline.recipes import Recipe, use_threads
from dragoman.stages.contract import StageHost
from dragoman.stages.messages import Caption, SessionOptions, Speech

log = logging.getLogger(__name__)

QUEUED = 2  # segments an actor has: one it works on, one that waits
TRIES = 3


@dataclass(eq=False)
class Job:
    """A whole segment of the file ``owner``; ``deaths`` counts the actors it may have killed."""

    owner: Any
    speech: Speech
    options: SessionOptions
    deaths: int = 0


Outcome = Caption | None | Failure
_Host = tuple[str, StageHost[Any, Any, Any]]  # a stage with its name


class SegmentActor:
    """The stages behind the segmenter, in a process of their own. Never raises."""

    def __init__(self, recipes: Sequence[Recipe], look: Recipe | None = None) -> None:
        # Ray hands arrays on read-only; messages are frozen, so nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        self._recipes, self._look = recipes, look
        self._hosts: list[_Host] = []
        self._lane: list[_Host] = []
        self._failure: Failure | None = None

    def pid(self) -> int:
        return os.getpid()

    def load(self) -> Failure | None:
        """Makes the stages: reads weights, so it may take long."""
        # Not before: it imports torch, which is no part of finding a place for an actor.
        use_threads(self._recipes)
        for recipe in self._recipes:
            try:
                self._hosts.append(_made(recipe))
            except Exception as error:
                self._failure = Failure.of(recipe.name, error)
                break
        return self._failure

    def run(self, speech: Speech, options: SessionOptions) -> Outcome:
        """The final caption of a segment, None when nothing was said in it."""
        if self._failure is not None:
            return self._failure
        if speech.pictures and (failure := self._open_eyes()):
            return failure
        items: list[Any] = [speech]
        for name, host in [*self._lane, *self._hosts] if speech.pictures else self._hosts:
            try:
                host.drop("segment")
                host.open("segment", options)
                items = [*host.step("segment", 0, items), *host.close("segment")]
            except Exception as error:
                return Failure.of(name, error)
        final: list[Caption] = [caption for caption in items if caption.kind == "final"]
        return final[-1] if final else None

    def _open_eyes(self) -> Failure | None:
        """Makes the stage that looks, if the model has one and it is not there yet."""
        if self._look is not None and not self._lane:
            try:
                self._lane.append(_made(self._look))
            except Exception as error:
                return Failure.of(self._look.name, error)
        return None


@dataclass(eq=False)
class _Worker:
    """An actor and what it has been given, oldest first."""

    actor: Any
    given: dict[Any, Job] = field(default_factory=dict)  # by the reference of the result


class Pool:
    """Actors and their jobs; made by :meth:`start`."""

    def __init__(
        self, recipes: Sequence[Recipe], owns_ray: bool, look: Recipe | None = None
    ) -> None:
        self._recipes, self._owns_ray, self._look = recipes, owns_ray, look
        self._workers: list[_Worker] = []
        self._share_gpu = 0.0

    @classmethod
    def start(
        cls,
        recipes: Sequence[Recipe],
        workers: int | None = None,
        address: str | None = None,
        look: Recipe | None = None,
    ) -> "Pool":
        """Loads ``workers`` actors, by default one for each core (or GPU, where stages want one).

        ``look`` is the stage that an actor makes for its first segment with pictures.
        ``address`` joins a cluster as in :meth:`pipeline.graph.Graph.start`. Raises PipelineError,
        DeviceError.
        """
        pool = cls(recipes, connect(address, workers or 1), look)
        try:
            check_gpus(recipes)
            pool._load(workers, system.cores() if address is None else 0)
        except BaseException:
            pool.stop()
            raise
        return pool

    def stop(self) -> None:
        """Ends the actors, and the Ray that was started for them."""
        for worker in self._workers:
            ray.kill(worker.actor)
        self._workers = []
        if self._owns_ray:
            ray.shutdown()

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def full(self) -> bool:
        return all(len(worker.given) >= QUEUED for worker in self._workers)

    @property
    def busy(self) -> bool:
        return any(worker.given for worker in self._workers)

    def pids(self) -> list[int]:
        """The processes of the actors."""
        return ray.get([worker.actor.pid.remote() for worker in self._workers])

    def submit(self, job: Job) -> None:
        """Gives ``job`` to the actor that has the least to do."""
        worker = min(self._workers, key=lambda worker: len(worker.given))
        worker.given[worker.actor.run.remote(job.speech, job.options)] = job

    def collect(self) -> list[tuple[Job, Outcome]]:
        """Waits until something is finished; may be empty when an actor had to be replaced."""
        waiting = [reference for worker in self._workers for reference in worker.given]
        if not waiting:
            return []
        ready, _ = ray.wait(waiting, num_returns=1)
        ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        out: list[tuple[Job, Outcome]] = []
        for worker in list(self._workers):
            out += self._take(worker, set(ready))
        return out

    def _take(self, worker: _Worker, ready: set[Any]) -> list[tuple[Job, Outcome]]:
        out: list[tuple[Job, Outcome]] = []
        for reference, job in list(worker.given.items()):
            if reference not in ready:
                continue
            outcome: Any
            try:
                outcome = ray.get(reference)
            except exceptions.RayTaskError as error:
                outcome = Failure.of("worker", error)
            except exceptions.RayError as error:
                return out + self._replace(worker, error)
            del worker.given[reference]
            out.append((job, outcome))
        return out

    def _replace(self, dead: _Worker, error: Exception) -> list[tuple[Job, Outcome]]:
        """A new actor for a dead one, which was working on the oldest of its jobs."""
        log.warning(
            "a worker's process ended (killed, or out of memory): a new one takes its place"
        )
        with contextlib.suppress(Exception):
            ray.kill(dead.actor)
        fresh = self._spawn()
        self._workers[self._workers.index(dead)] = fresh
        fresh.actor.load.remote()
        suspect, *innocent = dead.given.values()
        suspect.deaths += 1
        given_up = suspect.deaths >= TRIES
        for job in innocent if given_up else [suspect, *innocent]:
            fresh.given[fresh.actor.run.remote(job.speech, job.options)] = job
        if not given_up:
            return []
        message = f"the process that worked on it ended {TRIES} times (killed, or out of memory)"
        return [(suspect, Failure("worker", type(error).__name__, message, str(error)))]

    def _spawn(self) -> _Worker:
        actor = ray.remote(SegmentActor).options(num_cpus=1, num_gpus=self._share_gpu)
        return _Worker(actor.remote(self._recipes, self._look))

    def _load(self, workers: int | None, cores: int) -> None:
        """``cores``: how many a pool on this machine may use; 0: it is on a cluster."""
        there = ray.cluster_resources()
        wants_gpu = any(recipe.gpus for recipe in self._recipes)
        places = int(there.get("GPU" if wants_gpu else "CPU", 1))
        count = workers or max(1, min(places, cores or places))
        if wants_gpu:
            self._share_gpu = min(1.0, int(100 * there.get("GPU", 0) / count) / 100) or 1.0
        self._workers = [self._spawn() for _ in range(count)]
        try:
            ray.get([w.actor.pid.remote() for w in self._workers], timeout=PLACEMENT_S)
        except exceptions.GetTimeoutError:
            raise PipelineError(
                f"no place for {count} workers within {PLACEMENT_S:.0f} s: every worker needs a "
                "free CPU (and its share of a GPU, with --device cuda); look at `ray status`, or "
                "give a smaller --workers"
            ) from None
        except exceptions.RayError as error:
            raise _broken(error) from error
        self._await_load()

    def _await_load(self) -> None:
        try:
            failures = ray.get([worker.actor.load.remote() for worker in self._workers])
        except exceptions.RayError as error:
            raise _broken(error) from error
        for failure in filter(None, failures):
            raise failure.error()


def _made(recipe: Recipe) -> _Host:
    return recipe.name, StageHost(recipe.made())


def _broken(error: Exception) -> PipelineError:
    return PipelineError(
        "a worker's process ended while it was loading (killed, or out of memory): try a smaller "
        "--workers",
        kind=type(error).__name__,
        trace=str(error),
    )
