"""Actors as Ray actors, on this machine or on a cluster.

With :mod:`pipeline.ray_processes`, which starts and watches Ray itself, all that calls Ray. A call
passes object references on: the driver sends chunks to the first actor of a route and asks
the last one for captions, and does not open what lies between. Stages that want all cores of one
machine work in turns (:mod:`pipeline.turns`).
"""

import contextlib
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from typing import Any

from dragoman import system
from dragoman.errors import DeviceError, PipelineError
from dragoman.pipeline.actors import Actor, Host
from dragoman.pipeline.ray_processes import OwnProcesses, Processes, connect, exceptions, ray
from dragoman.pipeline.recipes import Recipe, use_threads
from dragoman.pipeline.runner import ENDED, ActorDied, Failure, Packet, Runner
from dragoman.pipeline.turns import Turns, needed, spared

PLACEMENT_S = 60.0
YIELDING = 19  # niceness: a program that wants the core, too, has nearly all of it


class RayRunner(Runner):
    """A runner in a process of its own, which works only in its turn, where there are turns."""

    def __init__(self, recipes: Sequence[Recipe], successor: bool, turns: Turns | None) -> None:
        super().__init__(recipes, successor)
        heavy = any(recipe.threads for recipe in recipes)
        self._turn = turns if turns is not None and heavy else contextlib.nullcontext()

    def ready(self) -> bool:
        return True

    def warm(self) -> None:
        """Imports what the stages of a model need, which takes longer than to load a small one.

        It yields to the captions that are being made meanwhile.
        """
        importer = threading.Thread(target=_import_stages)  # yields alone, and ends
        importer.start()
        importer.join()

    def become(self, recipes: Sequence[Recipe], turns: Turns | None) -> None:
        """Takes the place of an actor that has ended."""
        RayRunner.__init__(self, recipes, True, turns)

    def load(self) -> Failure | None:
        use_threads(self.recipes)  # not before: it imports torch, which is no part of finding room
        return super().load()

    @ray.method(num_returns=2)
    def step(self, *batches: list[Packet]) -> tuple[list[Packet], bool]:
        """As `run`, and a word that it is done, for a driver that does not open the packets."""
        with self._turn:
            return self.run(*batches), True


@dataclass(frozen=True)
class _Sent:
    """Packets that are, or will be, in the Ray of that number."""

    packets: Any
    number: int


class _There(Actor):
    """A runner in a process of Ray's; made with the lock of ``processes``."""

    def __init__(self, processes: Processes, handle: Any) -> None:
        self._ray, self._number, self._handle = processes, processes.number, handle
        self._alive = True
        self.placed = self.call("ready")

    @property
    def alive(self) -> bool:  # type: ignore[override]
        return self._alive and self._number == self._ray.number

    def call(self, method: str, *args: Any) -> Future:
        try:
            with self._ray.calling(self._number):
                return self._follow(getattr(self._handle, method).remote(*args))
        except ActorDied as death:
            return self._failed(death)

    def run(self, batches: list[Any], last: bool) -> tuple[Any, Future]:
        sent = [batch.number for batch in batches if isinstance(batch, _Sent)]
        given = [batch.packets if isinstance(batch, _Sent) else batch for batch in batches]
        try:
            with self._ray.calling(self._number, *sent):
                packets, done = self._handle.step.remote(*given)
                return _Sent(packets, self._number), self._follow(packets if last else done)
        except ActorDied as death:
            return None, self._failed(death)

    def kill(self) -> None:
        with contextlib.suppress(ActorDied), self._ray.calling(self._number):
            ray.kill(self._handle)

    def _follow(self, reference: Any) -> Future:
        return self._ray.follow(reference, self._told)

    def _told(self, error: Exception) -> Exception:
        if not isinstance(error, exceptions.RayActorError):
            return error
        self._alive = False
        return ActorDied(ENDED, kind=type(error).__name__, trace=str(error))

    def _failed(self, death: ActorDied) -> Future:
        self._alive = False
        failed: Future = Future()
        failed.set_exception(death)
        return failed


class RayHost(Host):
    """A Ray of this machine's own, or a cluster, or one that the caller has initialised.

    Without ``address`` a Ray is started for ``processes`` actors; `auto` or `host:port` joins a
    running cluster, whose nodes have this project installed and see the model at the same path.
    Raises PipelineError.
    """

    def __init__(self, address: str | None = None, processes: int = 3) -> None:
        self._turns: Turns | None = None
        self._sparing = threading.Lock()  # of what follows: actors may end at the same time
        self._spare: _There | None = None  # waits to take the place of one that ends
        self.warm: Future | None = None  # done once it has imported all
        self._spares = False
        self._here, self._closed = address is None, False
        self._ray = connect(address, processes)

    def fit(self, stages: Sequence[Recipe]) -> Sequence[Recipe]:
        """Raises DeviceError where a stage wants a GPU and no node has one."""
        self._check_gpus(stages)
        self._spares = self._here and any(stage.threads for stage in stages)
        if not needed(stages):
            return stages
        if not isinstance(self._ray, OwnProcesses):  # its processes need not be on one machine
            return spared(stages)
        self._turns = Turns()
        return stages

    def replicas(self, stages: Sequence[Recipe], count: int | None) -> Sequence[Sequence[Recipe]]:
        """By default one for each core, or for each GPU where stages want one."""
        self._check_gpus(stages)
        there = self._resources()
        wants_gpu = any(stage.gpus for stage in stages)
        places = int(there.get("GPU" if wants_gpu else "CPU", 1))
        count = count or max(1, min(places, system.cores()) if self._here else places)
        first, *rest = [replace(stage, gpus=0.0) for stage in stages]
        if wants_gpu:
            share = min(1.0, int(100 * there.get("GPU", 0) / count) / 100) or 1.0
            first = replace(first, gpus=share)
        return [(first, *rest)] * count

    def _resources(self) -> Mapping[str, float]:
        with self._ray.lock:
            self.recover()
            return ray.cluster_resources()

    def _check_gpus(self, stages: Sequence[Recipe]) -> None:
        """Raises DeviceError when a stage wants a GPU and Ray has none: it would wait for one."""
        if any(stage.gpus for stage in stages) and not self._resources().get("GPU"):
            raise DeviceError(
                "--device cuda: no node of this Ray has a GPU: see what `ray status` shows, or "
                "leave the option out to run on CPUs"
            )

    def prepare(self) -> None:
        """Starts a spare process, unless there is one."""
        with self._sparing:
            if self._spares and (self._spare is None or not self._spare.alive):
                with self._ray.lock:
                    self.recover()
                    handle = ray.remote(RayRunner).options(num_cpus=0).remote((), True, None)
                    self._spare = _There(self._ray, handle)
                    self.warm = self._spare.call("warm")

    def spawn(self, stages: Sequence[Recipe], successor: bool = False) -> _There:
        gpus = any(stage.gpus for stage in stages)
        if successor and not gpus and (spare := self._taken()):
            spare.call("become", stages, self._turns)
            return spare
        with self._ray.calling() if successor else self._ray.lock:
            if not successor:
                self.recover()
            # A successor asks for no core: where a whole node has ended there may be none, and it
            # would wait for one while others work.
            actor = ray.remote(RayRunner).options(
                num_cpus=0 if successor else max(stage.cpus for stage in stages),
                num_gpus=sum(stage.gpus for stage in stages),
            )
            return _There(self._ray, actor.remote(stages, successor, self._turns))

    def _taken(self) -> _There | None:
        """The spare process, which is none any more; None where there is none that is warm."""
        with self._sparing:
            if self._spare is None or self.warm is None or not self.warm.done():
                return None
            spare, self._spare = self._spare, None
            return spare if spare.alive else None

    def recover(self) -> None:
        with self._ray.lock:
            self._ray.renew()

    def place(self, actors: Sequence[Actor]) -> None:
        waiting = [actor.placed for actor in actors if isinstance(actor, _There)]
        if wait(waiting, PLACEMENT_S).not_done:
            raise PipelineError(
                f"no place for {len(waiting)} processes within {PLACEMENT_S:.0f} s: each needs a "
                "free CPU (and its share of a GPU, with --device cuda): look at `ray status`, or "
                "ask for fewer --workers"
            )
        for placed in waiting:
            placed.result()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._turns is not None:
            self._turns.close()
        if self._spare is not None:
            self._spare.kill()
        self._ray.close()


def _import_stages() -> None:
    if sys.platform == "linux":  # elsewhere it would be the whole process that yields, for ever
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), YIELDING)
    from dragoman.stages import encode, translate  # noqa: F401
