"""Replicas of the stages behind the segmenter, which turn whole segments into captions.

Between a batch and the actors. A segment is a session of one packet, and goes through the same
scheduler and runners as live sound. It is alone in its call, so it depends on no other: any replica
may take it, and take it again. A replica whose process ends is replaced, and what it was working on
is given out anew; what waits for it waits here. Only that segment can be to blame, and is given up
after a few deaths.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from queue import SimpleQueue
from typing import Any

from dragoman.errors import PipelineError
from dragoman.pipeline.actors import ActorGroup, Host
from dragoman.pipeline.recipes import Recipe, on_demand
from dragoman.pipeline.runner import ActorDied, Failure, Packet
from dragoman.stages.messages import Caption, SessionOptions, Speech

log = logging.getLogger(__name__)

QUEUED = 2  # segments a replica has: one it works on, one that waits
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

    def __init__(self, host: Host) -> None:
        self._actors = ActorGroup(host, most=1)
        self._given: list[int] = []  # jobs of each replica
        self._done: SimpleQueue[tuple[Job, int, Any]] = SimpleQueue()
        self._numbers = count()

    @classmethod
    def start(
        cls,
        host: Host,
        stages: Sequence[Recipe],
        workers: int | None = None,
        look: Recipe | None = None,
    ) -> "Pool":
        """Loads ``workers`` replicas of ``stages``; None: as many as there is room for.

        ``look`` is the stage that a replica makes for its first segment with pictures: sound alone
        never loads it. Raises PipelineError, DeviceError.
        """
        pool = cls(host)
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
        return all(given >= QUEUED for given in self._given)

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
        """Gives ``job`` to the replica that has the least to do."""
        replica = min(range(len(self)), key=self._given.__getitem__)
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
            try:
                outcome = _outcome(future.result())
            except ActorDied as error:
                log.warning("a worker process ended: a new one takes its place")
                job.deaths += 1
                if job.deaths < TRIES:
                    self._send(job, replica)
                    continue
                message = (
                    f"the process that worked on it ended {TRIES} times (killed, or out of memory)"
                )
                outcome = Failure("worker", error.kind, message, error.trace)
            except Exception as error:
                outcome = Failure.of("worker", error)
            self._given[replica] -= 1
            out.append((job, outcome))
        return out

    def _send(self, job: Job, replica: int) -> None:
        key = f"segment/{next(self._numbers)}"
        packet = Packet(key, 0, [job.speech], last=True, options=job.options)
        future = self._actors.scheduler.send(packet, (replica,))
        future.add_done_callback(lambda done: self._done.put((job, replica, done)))

    def _load(self, replicas: Sequence[Sequence[Recipe]]) -> None:
        for stages in replicas:
            self._actors.add(stages)
        self._given = [0] * len(replicas)
        try:
            self._actors.load()
        except ActorDied as error:
            raise PipelineError(
                "a worker's process ended while it was loading (killed, or out of memory): try a "
                "smaller --workers",
                kind=error.kind,
                trace=error.trace,
            ) from error


def _outcome(batch: list[Caption] | Failure) -> Outcome:
    """The final caption of a segment, None when nothing was said in it."""
    if isinstance(batch, Failure):
        return batch
    finals = [caption for caption in batch if caption.kind == "final"]
    return finals[-1] if finals else None
