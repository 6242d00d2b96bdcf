"""Replicas of the stages behind the segmenter, which turn whole segments into captions.

Between a batch and the actors. A segment is a session of one packet, and goes through the same
scheduler and runners as live sound: segments that wait for a replica, of whatever files, share its
next call, and so the passes of the model. Any replica may take a segment, and take it again.

A replica whose process ends is replaced, and what it was working on is given out anew, each segment
alone in its call now. So one that ends every process that works on it is found, and given up, and
costs the others of its first call nothing but time.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from queue import SimpleQueue
from typing import Any

from dragoman.errors import PipelineError
from dragoman.pipeline.actors import ActorGroup, Host
from dragoman.pipeline.recipes import Recipe, on_demand
from dragoman.pipeline.runner import ActorDied, Failure, Packet
from dragoman.spec import BATCH_SIZE
from dragoman.stages.messages import Caption, SessionOptions, Speech

log = logging.getLogger(__name__)

QUEUED = 2  # calls a replica has: one it works on, one that waits
TRIES = 3


@dataclass(eq=False)
class Job:
    """A whole segment of the file ``owner``; ``deaths`` counts the processes it may have ended."""

    owner: Any
    speech: Speech
    options: SessionOptions
    deaths: int = 0


Outcome = Caption | None | Failure


class Pool:
    """Replicas and their jobs; made by :meth:`start`, used by one thread."""

    def __init__(self, host: Host, batch_size: int = BATCH_SIZE) -> None:
        self._actors = ActorGroup(host, most=batch_size)
        self._room = QUEUED * batch_size  # jobs a replica has at most
        self._given: list[int] = []  # jobs of each replica
        self._sent: list[int] = []  # those that the scheduler has
        self._suspects: list[list[Job]] = []  # those that wait to be alone
        self._done: SimpleQueue[tuple[Job, int, Any]] = SimpleQueue()
        self._numbers = count()

    @classmethod
    def start(
        cls,
        host: Host,
        stages: Sequence[Recipe],
        workers: int | None = None,
        look: Recipe | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> "Pool":
        """Loads ``workers`` replicas of ``stages``; None: as many as there is room for. So many
        segments as ``batch_size`` share a call.

        ``look`` is the stage that a replica makes for its first segment with pictures: sound alone
        never loads it. Raises PipelineError, DeviceError.
        """
        pool = cls(host, batch_size)
        try:
            seeing = [] if look is None else [on_demand(look)]
            pool._load(host.replicas([*seeing, *stages], workers))
        except BaseException:
            pool.stop()
            raise
        return pool

    def stop(self) -> None:
        """Ends the replicas, and the Ray that was started for them."""
        self._actors.stop()

    def __len__(self) -> int:
        return len(self._given)

    @property
    def full(self) -> bool:
        return not self._free()

    @property
    def given(self) -> int:
        """How many jobs are under way, or wait for a replica that is."""
        return sum(self._given)

    @property
    def busy(self) -> bool:
        return any(self._given)

    def pids(self) -> list[int]:
        """The processes of the replicas."""
        return self._actors.ask("pid")

    def submit(self, job: Job) -> None:
        """Gives ``job`` to the replica that has the least to do; only if the pool is not `full`."""
        replica = min(self._free(), key=self._given.__getitem__)
        if not self._given[replica]:
            self._actors.visit(replica)  # a process that ended before is not this segment's fault
        self._given[replica] += 1
        self._send(job, replica)

    def collect(self) -> list[tuple[Job, Outcome]]:
        """Waits until something is finished; may be empty when a segment is tried once more."""
        out: list[tuple[Job, Outcome]] = []
        first = self.busy
        while first or not self._done.empty():
            first = False
            job, replica, future = self._done.get()
            self._sent[replica] -= 1
            for outcome in self._outcomes(job, replica, future):
                self._given[replica] -= 1
                out.append((job, outcome))
            if self._suspects[replica] and not self._sent[replica]:
                self._send(self._suspects[replica].pop(0), replica)
        return out

    def _free(self) -> list[int]:
        """The replicas that take more; one with suspects tries each of them alone first."""
        return [
            replica
            for replica, given in enumerate(self._given)
            if given < self._room and not self._suspects[replica]
        ]

    def _outcomes(self, job: Job, replica: int, future: Future) -> list[Outcome]:
        """What came of ``job``; nothing as yet where its process ended: it is a suspect then."""
        try:
            return [_caption(future.result())]
        except ActorDied as error:
            log.warning("a worker process ended: a new one takes its place")
            job.deaths += 1
            if job.deaths < TRIES:
                self._actors.recover()
                self._suspects[replica].append(job)
                return []
            message = (
                f"the process that worked on it ended {TRIES} times (killed, or out of memory)"
            )
            return [Failure("worker", error.kind, message, error.trace)]
        except Exception as error:
            return [Failure.of("worker", error)]

    def _send(self, job: Job, replica: int) -> None:
        key = f"segment/{next(self._numbers)}"
        packet = Packet(key, 0, [job.speech], last=True, options=job.options)
        self._sent[replica] += 1
        future = self._actors.scheduler.send(packet, (replica,))
        future.add_done_callback(lambda done: self._done.put((job, replica, done)))

    def _load(self, replicas: Sequence[Sequence[Recipe]]) -> None:
        for stages in replicas:
            self._actors.add(stages)
        self._given, self._sent = [0] * len(replicas), [0] * len(replicas)
        self._suspects = [[] for _ in replicas]
        try:
            self._actors.load()
        except ActorDied as error:
            raise PipelineError(
                "a worker's process ended while it was loading (killed, or out of memory): try a "
                "smaller --workers",
                kind=error.kind,
                trace=error.trace,
            ) from error


def _caption(batch: list[Caption] | Failure) -> Outcome:
    """The final caption of a segment, None when nothing was said in it."""
    if isinstance(batch, Failure):
        return batch
    finals = [caption for caption in batch if caption.kind == "final"]
    return finals[-1] if finals else None
