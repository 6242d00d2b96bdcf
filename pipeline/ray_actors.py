"""Actors as Ray actors, on this machine or on a cluster: the only module that calls Ray.

A call passes object references on: the driver sends chunks to the first actor of a route and asks
the last one for captions, and does not open what lies between. Stages that want all cores of one
machine work in turns (:mod:`pipeline.turns`).
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from dragoman import system
from dragoman.errors import DeviceError, PipelineError
from dragoman.pipeline.actors import Actor, Host
from dragoman.pipeline.recipes import Recipe, use_threads
from dragoman.pipeline.runner import ENDED, ActorDied, Failure, Packet, Runner
from dragoman.pipeline.turns import Turns, needed, spared

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Ray's workers yield to all other programs unless told not to: captions would wait for a browser.
os.environ.setdefault("RAY_worker_niceness", "0")
# Ray's head keeps an event of every call, 3.5 kB each, which nobody reads here.
os.environ.setdefault("RAY_task_events_report_interval_ms", "0")

import ray  # noqa: E402  (reads the settings above when it is imported)
from ray import exceptions  # noqa: E402
from ray._private import ray_constants  # noqa: E402

from dragoman.pipeline.knock import knock  # noqa: E402

OBJECT_STORE_BYTES = 128 * 2**20  # messages are small and travel inline; this is the spare room
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


class _There(Actor):
    """A runner in a process of Ray's."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self.placed = handle.ready.remote()

    def call(self, method: str, *args: Any) -> Future:
        return self._future(getattr(self._handle, method).remote(*args))

    def run(self, batches: list[Any], last: bool) -> tuple[Any, Future]:
        packets, done = self._handle.step.remote(*batches)
        return packets, self._future(packets if last else done)

    def kill(self) -> None:
        ray.kill(self._handle)

    def _future(self, reference: Any) -> Future:
        answer: Future = Future()

        def arrived(done: Future) -> None:
            try:
                answer.set_result(done.result())
            except exceptions.RayActorError as error:
                self.alive = False
                answer.set_exception(_died(error))
            except Exception as error:
                answer.set_exception(error)

        reference.future().add_done_callback(arrived)
        return answer


class RayHost(Host):
    """A Ray of this machine's own, or a cluster, or one that the caller has initialised.

    Without ``address`` a Ray is started for ``processes`` actors; `auto` or `host:port` joins a
    running cluster, whose nodes have this project installed and see the model at the same path.
    Raises PipelineError.
    """

    def __init__(self, address: str | None = None, processes: int = 3) -> None:
        self._turns: Turns | None = None
        self._sparing = threading.Lock()  # of what follows: actors may end at the same time
        self._spare: Any = None  # a process that waits to take the place of one that ends
        self.warm: Any = None  # what is there once it has imported all
        self._spares = False
        self._here = address is None
        self._owns_ray = connect(address, processes)

    def fit(self, stages: Sequence[Recipe]) -> Sequence[Recipe]:
        """Raises DeviceError where a stage wants a GPU and no node has one."""
        _check_gpus(stages)
        self._spares = self._here and any(stage.threads for stage in stages)
        if not needed(stages):
            return stages
        if not (self._owns_ray and self._here):  # its processes need not be on one machine
            return spared(stages)
        self._turns = Turns()
        return stages

    def replicas(self, stages: Sequence[Recipe], count: int | None) -> Sequence[Sequence[Recipe]]:
        """By default one for each core, or for each GPU where stages want one."""
        _check_gpus(stages)
        there = ray.cluster_resources()
        wants_gpu = any(stage.gpus for stage in stages)
        places = int(there.get("GPU" if wants_gpu else "CPU", 1))
        count = count or max(1, min(places, system.cores()) if self._here else places)
        first, *rest = [replace(stage, gpus=0.0) for stage in stages]
        if wants_gpu:
            share = min(1.0, int(100 * there.get("GPU", 0) / count) / 100) or 1.0
            first = replace(first, gpus=share)
        return [(first, *rest)] * count

    def prepare(self) -> None:
        """Starts a spare process, unless there is one."""
        with self._sparing:
            if self._spares and self._spare is None:
                self._spare = ray.remote(RayRunner).options(num_cpus=0).remote((), True, None)
                self.warm = self._spare.warm.remote()

    def spawn(self, stages: Sequence[Recipe], successor: bool = False) -> _There:
        gpus = any(stage.gpus for stage in stages)
        if successor and not gpus and (spare := self._taken()):
            spare.become.remote(stages, self._turns)
            return _There(spare)
        # A successor asks for no core: where a whole node has ended there may be none, and it would
        # wait for one while others work.
        actor = ray.remote(RayRunner).options(
            num_cpus=0 if successor else max(stage.cpus for stage in stages),
            num_gpus=sum(stage.gpus for stage in stages),
        )
        return _There(actor.remote(stages, successor, self._turns))

    def _taken(self) -> Any:
        """The spare process, which is none any more; None where there is none that is warm."""
        with self._sparing:
            if self._spare is None or not ray.wait([self.warm], timeout=0)[0]:
                return None
            spare, self._spare = self._spare, None
            return spare

    def place(self, actors: Sequence[Actor]) -> None:
        waiting = [actor.placed for actor in actors if isinstance(actor, _There)]
        try:
            ray.get(waiting, timeout=PLACEMENT_S)
        except exceptions.GetTimeoutError:
            raise PipelineError(
                f"no place for {len(waiting)} processes within {PLACEMENT_S:.0f} s: each needs a "
                "free CPU (and its share of a GPU, with --device cuda): look at `ray status`, or "
                "ask for fewer --workers"
            ) from None
        except exceptions.RayActorError as error:
            raise _died(error) from error

    def close(self) -> None:
        if self._turns is not None:
            self._turns.close()
        if self._spare is not None:
            ray.kill(self._spare)
        if self._owns_ray:
            ray.shutdown()


def _import_stages() -> None:
    if sys.platform == "linux":  # elsewhere it would be the whole process that yields, for ever
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), YIELDING)
    from dragoman.stages import encode, translate  # noqa: F401


def _died(error: Exception) -> ActorDied:
    return ActorDied(ENDED, kind=type(error).__name__, trace=str(error))


def connect(address: str | None, processes: int) -> bool:
    """Joins or starts a Ray, if none is there yet; True when it is ours to leave."""
    if ray.is_initialized():
        return False
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if address is None:
        _start_own(processes, quiet)
        return True
    try:
        knock(address)
        ray.init(address=address, **quiet)
    except exceptions.AuthenticationError as error:
        raise PipelineError(
            f"the Ray cluster at {address!r} wants its token, and did not get it: set "
            "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what `ray get-auth-token` prints on "
            "its head node; on that machine --address auto finds both"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise PipelineError(
            f"no Ray cluster at {address!r} ({error}): start one with `ray start --head`, or "
            "leave --address out to run on this machine"
        ) from error
    return True


def _start_own(processes: int, quiet: dict[str, Any]) -> None:
    try:
        with _loopback(), _without_hangup():
            ray.init(
                address="local",
                num_cpus=max(processes, os.cpu_count() or 1),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                **quiet,
            )
    except OSError as error:
        raise PipelineError(
            f"Ray cannot start here ({error}): it keeps a token in ~/.ray and its files in "
            "/tmp/ray; where the home folder cannot be written to, set RAY_AUTH_TOKEN to a secret "
            "of your own"
        ) from error
    except Exception as error:  # of no kind of its own, after half a minute
        raise PipelineError(
            f"Ray did not start here ({error}): this machine may be too busy, or short of memory: "
            "try again, or run without Ray (--no-ray)"
        ) from error


@contextlib.contextmanager
def _loopback() -> Iterator[None]:
    """Lets a Ray that starts meanwhile listen on this machine's own address alone.

    Ray does so where it supports no clusters, and has a switch for that; there is no other.
    """
    name, before = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    asked = os.environ.setdefault(name, "0")
    ray_constants.ENABLE_RAY_CLUSTER = before and asked not in ("0", "false")
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def _without_hangup() -> Iterator[None]:
    """Lets processes that start meanwhile outlive a terminal that is closed: this one ends them."""
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    if hangup is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(hangup, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(hangup, before)


def _check_gpus(stages: Sequence[Recipe]) -> None:
    """Raises DeviceError when a stage wants a GPU and Ray has none: it would wait for one."""
    if any(stage.gpus for stage in stages) and not ray.cluster_resources().get("GPU"):
        raise DeviceError(
            "--device cuda: no node of this Ray has a GPU: see what `ray status` shows, or leave "
            "the option out to run on CPUs"
        )
