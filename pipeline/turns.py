"""Turns for stages in processes of their own that want more cores than there are, all of them.

A large model's pass runs on all cores at once, and its threads wait for one another hundreds of
times; when another process takes one of the cores meanwhile, all of them wait for that. So such
stages work one at a time, each on all cores. Unusual: the lock is `flock` on memory of the driver,
so nothing lies on a disk, and a process that dies, however it does, gives its turn back.
"""

from collections.abc import Sequence
from dataclasses import replace
from io import FileIO

from dragoman import system
from dragoman.pipeline.recipes import Recipe


class Turns:
    """A context that one process at a time is in. Whoever makes it sends it to the others, on the
    same machine, and closes it; it serves one thread of each.

    They are let in in no order that is promised. A stage that leaves is not called again before its
    driver has heard of it, and by then the one that waited is in.
    """

    def __init__(self) -> None:
        self._memory, self._path = system.shared_file("turns")
        self._file: FileIO | None = None

    def __getstate__(self) -> str:
        return self._path

    def __setstate__(self, path: str) -> None:
        self._memory, self._path, self._file = None, path, None

    def close(self) -> None:
        """Lets nobody in any more who was not in before."""
        if self._memory is not None:
            self._memory.close()

    def __enter__(self) -> None:
        if self._file is None:
            self._file = FileIO(self._path)  # opened anew: a copy would share the lock
        system.lock(self._file)

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        system.unlock(self._file)


def needed(stages: Sequence[Recipe]) -> bool:
    """Whether the threads of stages that run at the same time are more than this machine's cores,
    and wait for one another."""
    threads = [stage.threads for stage in stages if not stage.gpus]
    return max(threads, default=0) > 1 and sum(threads) > system.cores()


def spared(stages: Sequence[Recipe]) -> list[Recipe]:
    """The same where no turns can be taken: only the stage that wants most cores, the last of them,
    has more than one thread."""
    most = max(range(len(stages)), key=lambda i: (stages[i].threads, i))
    return [
        stage if i == most else replace(stage, threads=min(stage.threads, 1))
        for i, stage in enumerate(stages)
    ]
