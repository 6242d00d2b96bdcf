"""The processes of Ray itself: a Ray of this process's own, or a cluster that it joins.

Below :mod:`pipeline.ray_actors`, which puts actors there. Ray takes a minute to notice that its
head (`gcs_server`) or its `raylet` was killed, and then ends the whole process without a word. So a
thread looks at both; where one has ended, all calls under way fail at once, and another Ray takes
its place. All hosts of this process share one.

What is unusual: a call into a Ray that is being shut down may end the process, too. So whoever
calls Ray holds a lock meanwhile, and says which Ray is meant.
"""

import atexit
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from dragoman import system
from dragoman.errors import PipelineError
from dragoman.pipeline.runner import ENDED, ActorDied

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# A call after the end must not start a Ray that nobody asked for.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
# Ray's workers yield to all other programs unless told not to: captions would wait for a browser.
os.environ.setdefault("RAY_worker_niceness", "0")
# Ray's head keeps an event of every call, 3.5 kB each, which nobody reads here.
os.environ.setdefault("RAY_task_events_report_interval_ms", "0")
os.environ.setdefault("RAY_enable_metrics_collection", "0")

import ray  # noqa: E402  (reads the settings above when it is imported)
from ray import exceptions  # noqa: E402
from ray._private import ray_constants, worker  # noqa: E402
from ray._private.utils import read_ray_address  # noqa: E402

from dragoman.pipeline.knock import knock  # noqa: E402
from dragoman.pipeline.ray_folder import RayFolder  # noqa: E402

log = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 128 * 2**20  # messages are small and travel inline; this is the spare room
WATCH_S = 0.25
WATCHED = ("gcs_server", "raylet")  # without the others Ray goes on
RAY_DIED = "RayDied"  # the kind of such errors
QUIET = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}


class Processes:
    """A Ray whose processes are not ours: that of the caller, or a cluster.

    ``lock`` is held by whoever calls Ray. ``number`` counts the Rays that were here one after the
    other; what belongs to an earlier one is lost. ``joined``: it is ours to leave.
    """

    def __init__(self, joined: bool = False) -> None:
        self.lock = threading.RLock()
        self.number = 0
        self.joined = joined
        self._pending: set[Future] = set()

    def renew(self) -> None:
        """Waits until a Ray is here; call it with the lock. Raises PipelineError."""

    @contextlib.contextmanager
    def calling(self, *numbers: int) -> Iterator[None]:
        """Inside, Ray may be called. Raises ActorDied, and does not wait for another, unless the
        Ray of these numbers is here.
        """
        self.check(*numbers)  # before the lock, which may be held for long by who replaces it
        with self.lock:
            self.check(*numbers)
            yield

    def check(self, *numbers: int) -> None:
        """Raises ActorDied unless the Ray of these numbers, or any, is here."""
        if any(number != self.number for number in numbers):
            raise ActorDied(ENDED, kind=RAY_DIED)

    def follow(self, reference: Any, failed: Callable[[Exception], Exception]) -> Future:
        """What comes of a reference, or what ``failed`` makes of an error; call it with the lock.

        Raises ActorDied where Ray ends before.
        """
        answer: Future = Future()
        self._pending.add(answer)

        def arrived(done: Future) -> None:
            try:
                self._pending.remove(answer)
            except KeyError:  # it has failed with its Ray
                return
            try:
                answer.set_result(done.result())
            except Exception as error:
                answer.set_exception(failed(error))

        reference.future().add_done_callback(arrived)
        return answer

    def close(self) -> None:
        """Leaves it."""
        if self.joined:
            with self.lock:
                ray.shutdown()


class OwnProcesses(Processes):
    """A Ray that this process has started, and starts again where it ends by itself."""

    def __init__(self, processes: int, renewed: bool = True) -> None:
        """For so many actors; ``renewed``: another takes its place. Raises PipelineError."""
        super().__init__(joined=True)
        self.users = 1
        self._cpus = max(processes, os.cpu_count() or 1)
        self._changed = threading.Condition(self.lock)  # of what follows
        self._here = self._wanted = False
        self._failure: PipelineError | None = None  # why it is not here
        self._folder: RayFolder | None = None
        self._over = threading.Event()
        self._start()
        self._renewed = renewed
        if renewed:
            threading.Thread(target=self._watch, name="ray-watch", daemon=True).start()
        atexit.register(self._leave)  # before Ray itself does, which looks here like an accident

    def pids(self) -> dict[str, int]:
        """The processes without which it does not go on, by name."""
        return {name: process.pid for name, process in self._watched()}

    def renew(self) -> None:
        if self._here and not self._dead():
            return
        if not self._renewed:
            raise PipelineError("Ray has ended (killed, or out of memory): start again")
        self._failure, self._wanted = None, True
        while not self._here or self._dead():
            if self._failure is not None:
                raise self._failure
            if self._over.is_set():
                raise PipelineError("the pipeline was stopped")
            self._changed.wait()

    def check(self, *numbers: int) -> None:
        super().check(*numbers)
        if not self._here or self._dead():  # a call to what is dead might never come back
            raise ActorDied(ENDED, kind=RAY_DIED)

    def close(self) -> None:
        """Ends it when the last host has left."""
        with _sharing:
            self.users -= 1
            if not self.users:
                atexit.unregister(self._leave)
                self._leave()

    def _leave(self) -> None:
        with self._changed:
            self._over.set()
            self._end()
            self._changed.notify_all()

    def _watch(self) -> None:
        """Linux ends Ray's processes with the thread that started them, so this one stays."""
        while not self._over.wait(WATCH_S):
            if self._here and not self._dead():
                continue
            # Ray takes SIGTERM for itself: to show a trace and end, or to end at once.
            with self._changed, system.keeping_handler(signal.SIGTERM):
                self._replace()
                self._changed.notify_all()

    def _replace(self) -> None:
        if self._here and (dead := self._dead()):
            log.info("%s of Ray ended (killed, or out of memory): another starts", dead[0])
            self._end()
            self._wanted = True
        if self._wanted and not self._over.is_set():
            self._wanted = False
            try:
                self._start()
            except PipelineError as error:
                self._failure = error

    def _watched(self) -> list[tuple[str, Any]]:
        node: Any = worker._global_node
        known = {} if node is None else node.all_processes
        return [(name, info.process) for name in WATCHED for info in known.get(name, ())]

    def _dead(self) -> list[str]:
        return [name for name, process in self._watched() if process.poll() is not None]

    def _end(self) -> None:
        """Ends what is left of it; whoever waits for an answer hears of that at once."""
        self._here = False
        self.number += 1
        while self._pending:
            self._pending.pop().set_exception(ActorDied(ENDED, kind=RAY_DIED))
        ray.shutdown()
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def _start(self) -> None:
        folder = RayFolder()
        try:
            with _loopback(), _without_hangup():
                ray.init(
                    address="local",
                    num_cpus=self._cpus,
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    _temp_dir=str(folder.path),
                    **QUIET,
                )
        except BaseException as error:
            ray.shutdown()
            folder.remove()
            if isinstance(error, Exception):
                raise _not_started(error) from error
            raise
        self._folder, self._here = folder, True


def _not_started(error: Exception) -> PipelineError:
    if isinstance(error, OSError):
        return PipelineError(
            f"Ray cannot start here ({error}): it keeps a token in ~/.ray and its files where "
            "temporary files are; where the home folder cannot be written to, set RAY_AUTH_TOKEN "
            "to a secret of your own"
        )
    return PipelineError(  # of no kind of its own, after half a minute
        f"Ray did not start here ({error}): this machine may be too busy, or short of memory: try "
        "again, or run without Ray (--no-ray)"
    )


_own: OwnProcesses | None = None
_sharing = threading.RLock()  # of it, and of how many use it


def connect(address: str | None, processes: int, renewed: bool = True) -> Processes:
    """Starts a Ray for so many ``processes``, or joins one: the cluster at ``address``, else one
    that this process has already. ``renewed``: one that is started is replaced where it ends, which
    is of no use to who has more there than actors of ours. Raises PipelineError.
    """
    global _own
    with _sharing:
        if _own is not None and _own.users:
            _own.users += 1
            return _own
        if ray.is_initialized():
            return Processes()
        if address is None:
            _own = OwnProcesses(processes, renewed)
            return _own
        _join(address)
        return Processes(joined=True)


def _join(address: str) -> None:
    try:
        found = _found(address)
        knock(found)
        ray.init(address=found, **QUIET)
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


def _found(address: str) -> str:
    """``address``; for "auto" that of RAY_ADDRESS or of the last `ray start` on this machine.

    Ray itself would take any Ray that it finds, also the private one of another program.
    """
    if address != "auto":
        return address
    asked = os.environ.get(ray_constants.RAY_ADDRESS_ENVIRONMENT_VARIABLE) or read_ray_address()
    if not asked:
        raise ConnectionError("none was started here, and RAY_ADDRESS names none")
    return asked


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
    if hangup is None:
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        with system.ignoring(hangup):
            yield
        return
    before = signal.signal(hangup, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(hangup, before)
