"""Schedules the calls of all actors: what goes together, what waits, and in which order.

Between those who send packets (chains, pools) and the actors. Each actor has one call under way at
most, and rests while much of what it gave before still waits in front of the next: that is the
backpressure. What arrives meanwhile goes into its next call together, one packet of each session:
continuous batching. So actors that are not busy answer every chunk at once, and busy ones get fewer
and larger calls: a call costs about as much as a stage's work on one chunk, and stages work on many
chunks for less than their sum.

Unusual: nothing is decided by timers, and no message is opened here. What a call returns is passed
on as the handle it is; only the last actor's packets come back, and are given to those who wait.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

from dragoman.pipeline.runner import Packet

# Loads in front of the next actor for which one rests. Without rest, an actor ahead of the next one
# takes processor time for many small calls that gain nothing; with one already, the next may run
# dry while the first collects.
AHEAD = 4

# Starts a call of an actor with some batches of packets, or handles of such; gives a handle of the
# packets that come out, and a future that tells when (the last actor's: the packets themselves).
Start = Callable[[int, list[Any], bool], tuple[Any, Future]]


@dataclass(eq=False)
class _Load:
    """Packets on their way, as a list or a handle of one: whose they are, who waits for each, and
    the actors still ahead.
    """

    cargo: Any
    waiting: dict[str, Future]
    ahead: tuple[int, ...]


class Scheduler:
    """Sends packets along their routes with one thread of its own, which alone knows the state."""

    def __init__(self, start: Start, most: int | None = None) -> None:
        """``most`` sessions go into a call; None: all that wait."""
        self._start, self._most = start, most
        self._queues: dict[int, list[_Load]] = {}
        self._under_way: dict[int, _Load] = {}
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._stopping = threading.Lock()
        self._stopped = False
        threading.Thread(target=self._work, name="scheduler", daemon=True).start()

    def send(self, packet: Packet, route: tuple[int, ...]) -> Future:
        """Sends ``packet`` through the actors of ``route``; the items that come out of the last.

        Packets of one session arrive in the order in which they were sent.
        """
        future: Future = Future()
        load = _Load([packet], {packet.session: future}, route)
        with self._stopping:
            if self._stopped:
                _fail(load, RuntimeError("the pipeline was stopped"))
            else:
                self._tasks.put(partial(self._arrive, load))
        return future

    def forget(self, session: str) -> None:
        """Sends nothing of ``session`` that has not set out yet."""
        self._tasks.put(partial(self._withdraw, session))

    def stop(self) -> None:
        """Fails whatever is on its way."""
        with self._stopping:
            self._stopped = True
        self._tasks.put(None)

    # The scheduler's thread.

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
            # From the last: what an actor takes may let the one before it go on.
            while any([self._call(actor) for actor in sorted(self._queues, reverse=True)]):
                pass
        waiting = [load for queue in self._queues.values() for load in queue]
        for load in [*waiting, *self._under_way.values()]:
            _fail(load, RuntimeError("the pipeline was stopped"))

    def _arrive(self, load: _Load) -> None:
        """``load`` is to go through the next actor of its route."""
        self._queues.setdefault(load.ahead[0], []).append(load)

    def _call(self, actor: int) -> bool:
        """Calls ``actor`` with all that may go together, if it is free and there is anything."""
        loads = [] if actor in self._under_way else self._together(self._queues[actor])
        if not loads:
            return False
        self._queues[actor] = [load for load in self._queues[actor] if load not in loads]
        cargoes = [load.cargo for load in loads]
        waiting = {name: future for load in loads for name, future in load.waiting.items()}
        under_way = _Load(None, waiting, loads[0].ahead[1:])
        try:
            under_way.cargo, done = self._start(actor, cargoes, not under_way.ahead)
        except Exception as error:  # the pipeline is being stopped
            _fail(under_way, error)
            return True
        self._under_way[actor] = under_way
        done.add_done_callback(lambda done: self._tasks.put(partial(self._done, actor, done)))
        return True

    def _together(self, queue: list[_Load]) -> list[_Load]:
        """Those that go together: by the same way, which is free, no session twice, none before
        its own."""
        taken, seen = [], set()
        for load in queue:
            free = all(len(self._queues.get(actor, ())) < AHEAD for actor in load.ahead[1:2])
            same = not taken or load.ahead == taken[0].ahead
            room = self._most is None or sum(len(t.waiting) for t in taken) < self._most
            if free and same and room and seen.isdisjoint(load.waiting):
                taken.append(load)
            seen |= load.waiting.keys()
        return taken

    def _done(self, actor: int, done: Future) -> None:
        load = self._under_way.pop(actor)
        error = RuntimeError("the call was cancelled") if done.cancelled() else done.exception()
        if error is not None:
            _fail(load, error)
        elif load.ahead:
            self._arrive(load)
        else:
            for packet in done.result():
                load.waiting[packet.session].set_result(packet.items)

    def _withdraw(self, session: str) -> None:
        for queue in self._queues.values():
            for load in [load for load in queue if set(load.waiting) == {session}]:
                queue.remove(load)
                _fail(load, RuntimeError("the session was dropped"))


def _fail(load: _Load, error: BaseException) -> None:
    for future in load.waiting.values():
        future.set_exception(error)
