"""The chain as Ray actors, one per stage, on this machine or on a cluster.

A call passes object references on: the driver sends chunks to the first actor and asks the last one
for captions, and does not open what lies between. Actors take calls in the order in which they
were made, and hold any number of sessions. A stage whose process has ended takes its sessions with
it, and is started again for the next one.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from dragoman.errors import DeviceError, PipelineError
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.link import Failure, Link, Packet
from dragoman.pipeline.recipes import Recipe, use_threads
from dragoman.pipeline.turns import Turns, needed, spared
from dragoman.stages.messages import SessionOptions

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Ray's workers yield to all other programs unless told not to: captions would wait for a browser.
os.environ.setdefault("RAY_worker_niceness", "0")

import ray  # noqa: E402  (reads the settings above when it is imported)
from ray import exceptions  # noqa: E402

from dragoman.pipeline.knock import knock  # noqa: E402

log = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 128 * 2**20  # messages are small and travel inline; this is the spare room
PLACEMENT_S = 60.0


class StageActor(Link):
    """A link in a process of its own, which works only when it is its turn, where there are any."""

    def __init__(self, recipe: Recipe, turns: Turns | None = None) -> None:
        super().__init__(recipe)
        use_threads([recipe])
        self._turn = turns if turns is not None and recipe.threads else contextlib.nullcontext()

    def ready(self) -> bool:
        return True

    def open(self, session: str, options: SessionOptions, seq: int = 0) -> Failure | None:
        with self._turn:
            return super().open(session, options, seq)

    @ray.method(num_returns=2)
    def step(self, *batches: list[Packet]) -> tuple[list[Packet], bool]:
        """As `run`, and a word that it is done, for a driver that does not open the packets."""
        with self._turn:
            return self.run(*batches), True


class Graph(Chain):
    """Stages in Ray actors; made by :meth:`start`."""

    def __init__(
        self, actors: list[Any], model: str, owns_ray: bool, look: Recipe | None = None
    ) -> None:
        super().__init__(model, look)
        self._actors = actors
        self._recipes: list[Recipe] = []  # of the actors
        self._owns_ray = owns_ray
        self._turns: Turns | None = None
        self._healing = threading.RLock()
        self._serving = self._ailing = False  # started; a process has ended since

    @classmethod
    def start(
        cls,
        stages: Sequence[Recipe],
        look: Recipe | None = None,
        model: str = "",
        address: str | None = None,
    ) -> "Graph":
        """Loads and warms up ``stages``; ``look`` is for pictures.

        Without ``address`` a Ray of its own is started on this machine; `auto` or `host:port` joins
        a running cluster, whose nodes have this project installed and see the model at the same
        path. A Ray that the caller has already initialised is used as it is. Raises PipelineError,
        and DeviceError where a stage wants a GPU and no node has one.
        """
        owns_ray = connect(address, len(stages))
        graph = cls([], model, owns_ray, look)
        try:
            check_gpus(stages)
            if needed(stages):
                if owns_ray and address is None:
                    graph._turns = Turns()
                else:  # its processes need not be on one machine
                    stages = spared(stages)
            for stage in stages:
                graph._append(stage)
            graph._await_placement(graph._actors)
            graph.load()
            graph._serving = True
        except BaseException:
            graph.stop()
            raise
        return graph

    def stop(self) -> None:
        """Ends the actors, and the Ray that was started for them."""
        super().stop()
        with self._healing:
            for actor in self._actors:
                ray.kill(actor)
            self._actors = []
        if self._turns is not None:
            self._turns.close()
        if self._owns_ray:
            ray.shutdown()

    def __len__(self) -> int:
        return len(self._actors)

    def open(self, session: str, options: SessionOptions) -> None:
        """As `Chain.open`; stages whose process has ended are started again first."""
        self._heal()
        try:
            super().open(session, options)
        except PipelineError:
            if not self._ailing:
                raise
            self._heal()
            super().open(session, options)

    def _heal(self) -> None:
        """Starts and loads anew what has ended; raises PipelineError where that cannot be done."""
        with self._healing:
            if self._stopped or not self._ailing:
                return
            self._ailing = False
            for link in range(len(self)):
                if not self._lives(link):
                    self._replace(link)

    def _replace(self, link: int) -> None:
        recipe = self._recipes[link]
        log.warning("the process of the stage %r ended: a new one takes its place", recipe.name)
        fresh = self._spawn(recipe)
        try:
            self._await_placement([fresh])
            failure = self._wait(fresh.load.remote())
            if isinstance(failure, Failure):
                raise failure.error()
        except BaseException:
            ray.kill(fresh)
            self._ailing = True
            raise
        fresh.settle.remote()
        self._actors[link] = fresh

    def _lives(self, link: int) -> bool:
        try:
            return ray.get(self._actors[link].ready.remote())
        except exceptions.RayError:
            return False

    def _add(self, recipe: Recipe) -> int:
        with self._healing:
            return self._append(recipe)

    def _append(self, recipe: Recipe) -> int:
        self._recipes.append(recipe)
        self._actors.append(self._spawn(recipe))
        return len(self._actors) - 1

    def _spawn(self, recipe: Recipe) -> Any:
        # The lane has no CPU of its own: it must find a place on a machine where the other stages
        # took all, and works only while one of them waits for it.
        cpus = 0 if recipe is self._look else 1
        actor = ray.remote(StageActor).options(num_cpus=cpus, num_gpus=recipe.gpus)
        return actor.remote(recipe, self._turns)

    def _call(self, link: int, method: str, *args: Any) -> Any:
        return getattr(self._actors[link], method).remote(*args)

    def _start(self, link: int, batches: list[Any], last: bool) -> tuple[Any, Future]:
        packets, done = self._actors[link].step.remote(*batches)
        return packets, (packets if last else done).future()

    def _future(self, handle: Any) -> Future:
        return handle.future()

    def _await_placement(self, actors: Sequence[Any]) -> None:
        try:
            ray.get([actor.ready.remote() for actor in actors], timeout=PLACEMENT_S)
        except exceptions.GetTimeoutError:
            raise PipelineError(
                f"no place for {len(self)} stages within {PLACEMENT_S:.0f} s: every stage needs a "
                "free CPU (and its share of a GPU, with --device cuda); look at `ray status`"
            ) from None
        except exceptions.RayError as error:
            raise self._broken("", error) from error

    def _broken(self, session: str, error: Exception) -> PipelineError:
        if not isinstance(error, exceptions.RayActorError):
            return super()._broken(session, error)
        self._ailing = self._serving
        lost = ", and what was being said is lost" if session else ""
        return PipelineError(
            f"the process of a stage ended (killed, or out of memory){lost}: start again",
            kind=type(error).__name__,
            trace=str(error),
        )


def connect(address: str | None, stages: int) -> bool:
    """Joins or starts a Ray, if none is there yet; True when it is ours to leave."""
    if ray.is_initialized():
        return False
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if address is None:
        _start_own(stages, quiet)
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


def _start_own(stages: int, quiet: dict[str, Any]) -> None:
    try:
        ray.init(
            address="local",
            num_cpus=max(stages, os.cpu_count() or 1),
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


def check_gpus(stages: Sequence[Recipe]) -> None:
    """Raises DeviceError when a stage wants a GPU and Ray has none: it would wait for one."""
    if any(stage.gpus for stage in stages) and not ray.cluster_resources().get("GPU"):
        raise DeviceError(
            "--device cuda: no node of this Ray has a GPU: see what `ray status` shows, or leave "
            "the option out to run on CPUs"
        )
