"""The chain in this process, without Ray: for debugging, small machines and tests.

One thread runs all stages in order, so the session that feeds them can still measure how far they
lag, exactly as it does with actors.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from dragoman.pipeline.chain import Chain
from dragoman.pipeline.link import Link
from dragoman.pipeline.recipes import Recipe, use_threads


class Local(Chain):
    """Stages in the calling process; made by :meth:`start`."""

    def __init__(self, links: list[Link], model: str, look: Recipe | None = None) -> None:
        super().__init__(model, look)
        self._links = links
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stages")

    @classmethod
    def start(
        cls, stages: Sequence[Recipe], look: Recipe | None = None, model: str = ""
    ) -> "Local":
        """Loads and warms up ``stages``; ``look`` is for pictures. Raises PipelineError."""
        use_threads(stages)
        local = cls([Link(stage) for stage in stages], model, look)
        try:
            local.load()
        except BaseException:
            local.stop()
            raise
        return local

    def stop(self) -> None:
        super().stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __len__(self) -> int:
        return len(self._links)

    def _add(self, recipe: Recipe) -> int:
        self._links.append(Link(recipe))
        return len(self._links) - 1

    def _call(self, link: int, method: str, *args: Any) -> Future:
        return self._pool.submit(getattr(self._links[link], method), *args)

    def _start(self, link: int, batches: list[Any], last: bool) -> tuple[Future, Future]:
        # What a handle stands for is there: nothing is started before.
        ready = [batch.result() if isinstance(batch, Future) else batch for batch in batches]
        packets = self._call(link, "run", *ready)
        return packets, packets

    def _future(self, handle: Future) -> Future:
        return handle
