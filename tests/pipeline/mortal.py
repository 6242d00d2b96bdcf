"""A process whose actors die when a test says so, as if each had one of its own."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from dragoman.pipeline.actors import Actor, InProcess
from dragoman.pipeline.recipes import Recipe
from dragoman.pipeline.runner import ENDED, ActorDied

# Whether the actor of the named stage dies in its run number so and so, counted over all processes.
Dies = Callable[[str, int], bool]


class Mortal(InProcess):
    """Actors that lose their state, and what they were working on; ``ended`` says which did."""

    def __init__(self) -> None:
        super().__init__()
        self.dies: Dies = lambda stage, run: False
        self.ended: list[str] = []
        self._runs: dict[str, int] = {}

    def begin(self, dies: Dies) -> None:
        """Counts runs from here on."""
        self.dies, self.ended, self._runs = dies, [], {}

    def is_last(self, stage: str) -> bool:
        """Counts a run of ``stage``, and says whether it is that process's last."""
        self._runs[stage] = run = self._runs.get(stage, -1) + 1
        if self.dies(stage, run):
            self.ended.append(stage)
            return True
        return False

    def spawn(self, stages: Sequence[Recipe], successor: bool = False) -> Actor:
        return _Mortal(super().spawn(stages, successor), stages[0].name, self)


class _Mortal(Actor):
    def __init__(self, actor: Actor, stage: str, host: Mortal) -> None:
        self._actor, self._stage, self._host = actor, stage, host

    def call(self, method: str, *args: Any) -> Future:
        return self._actor.call(method, *args) if self.alive else self._died()

    def run(self, batches: list[Any], last: bool) -> tuple[Any, Future]:
        if self._host.is_last(self._stage):
            self.alive = False
        if self.alive:
            return self._actor.run(batches, last)
        died = self._died()
        return died, died

    def kill(self) -> None:
        self._actor.kill()

    def _died(self) -> Future:
        died: Future = Future()
        died.set_exception(ActorDied(ENDED))
        return died
