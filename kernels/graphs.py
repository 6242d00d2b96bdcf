"""CUDA graphs: work on a GPU recorded once and replayed in one go.

A pass of a model is a thousand small kernels there, and starting them one by one takes longer than
they do. A recording starts all of them with one call, but always works on the same memory: what
uses recordings (:mod:`kernels.graphed`) copies its input into that memory first.

Unusual: on the CPU nothing is recorded, and the same functions run as they are, which is how they
are tested. Where a recording fails, what it is of runs as it is; a warning says so, once.
"""

import logging
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Generic, TypeVar

import torch

log = logging.getLogger(__name__)

WARM_UP = 2  # runs before a recording, in which libraries choose their kernels
MOST = 96  # recordings of one model: each holds the launches of a whole pass
_allowed = True

MadeT = TypeVar("MadeT")


@contextmanager
def off() -> Iterator[None]:
    """Inside, models run without recordings."""
    global _allowed
    before, _allowed = _allowed, False
    try:
        yield
    finally:
        _allowed = before


class Recordings(Generic[MadeT]):
    """The recordings of one model by what they are of, each made when it is first asked for.

    ``error``: why one failed, once one has.
    """

    def __init__(self) -> None:
        self._made: dict[Hashable, MadeT | None] = {}  # None: it failed
        self.error = ""

    def __len__(self) -> int:
        return sum(made is not None for made in self._made.values())

    def get(self, of: Hashable, make: Callable[[], MadeT]) -> MadeT | None:
        """The recording ``of`` something; None: they are off, it failed, or `MOST` were tried."""
        if not _allowed:
            return None
        if of not in self._made:
            if len(self._made) >= MOST:
                return None
            self._made[of] = self._tried(make)
        return self._made[of]

    def _tried(self, make: Callable[[], MadeT]) -> MadeT | None:
        try:
            return make()
        except RuntimeError as error:
            level = logging.DEBUG if self.error else logging.WARNING
            self.error = self.error or str(error) or type(error).__name__
            log.log(level, "no CUDA graph of some work, which makes it slower: %s", error)
            return None


def record(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """``work`` as a recording on a GPU, where it is run a few times at once; elsewhere itself.

    What one recording leaves in memory of its own, the next replay of any may write over: whoever
    replays holds `turn` until that was read. Raises RuntimeError where it cannot be recorded.
    """
    if device.type != "cuda":
        return work
    current, graph = torch.cuda.current_stream(device), torch.cuda.CUDAGraph()
    with turn:
        aside, pool = _shared(device)
        aside.wait_stream(current)
        try:
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP):
                    work()
            # Other threads may go on meanwhile, with another model for one.
            mode = "thread_local"
            with torch.cuda.graph(graph, pool=pool, stream=aside, capture_error_mode=mode):
                work()
        finally:
            torch.cuda.set_stream(current)  # which a failure would leave
            current.wait_stream(aside)
    return graph.replay


turn = threading.Lock()  # of recording, and of replaying with what is read afterwards


@cache
def _shared(device: torch.device) -> tuple[torch.cuda.Stream, Any]:
    """What all recordings on a device share, as they are made one after the other and replayed one
    after the other: the stream on which they are made, and memory.
    """
    return torch.cuda.Stream(device), torch.cuda.graph_pool_handle()


def rounded(count: int) -> int:
    """The next power of two: what is recorded comes in these sizes."""
    return 1 << (count - 1).bit_length()
