"""Hands out pictures in step with sound.

Between a source of pictures, such as :mod:`pipeline.frames`, and what feeds sound to a segmenter:
:mod:`pipeline.session` and :mod:`pipeline.segments`. What is unusual: the sound waits for the
picture after the present one, since only that tells that there is none in between; so which
pictures a session sees does not depend on how fast anything was read.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from queue import Empty, Full, Queue

from dragoman.errors import InputError
from dragoman.stages.illustrate import REMEMBERED
from dragoman.stages.messages import Chunk, Picture

log = logging.getLogger(__name__)

Warn = Callable[[str], None]

AHEAD = 2
POLL_S = 0.1


class Reel:
    """Pictures in step with sound: a thread reads a little ahead, :meth:`until` hands out.

    Which pictures come with which stretch of sound depends on their times alone, so the source has
    to be as fast as the sound: :meth:`until` waits for the picture that comes after.
    """

    def __init__(
        self,
        pictures: Iterable[Picture],
        stopping: threading.Event,
        warn: Warn = log.warning,
    ) -> None:
        """``stopping``, once it is set, ends the reading like :meth:`close`.

        When the source fails there are no more pictures, and ``warn`` is told why; by
        :meth:`until`, so when it is told does not depend on how fast anything was read either.
        """
        self._pictures, self._stopping, self._warn = pictures, stopping, warn
        self._ready: Queue[Picture | Exception | None] = Queue(AHEAD)
        self._next: Picture | None = None
        self._ended = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._read, name="frames", daemon=True)
        self._thread.start()

    def until(self, end: int) -> tuple[Picture, ...]:
        """The pictures from the last call's ``end`` to sample index ``end``; the newest few."""
        out: deque[Picture] = deque(maxlen=REMEMBERED)
        while (picture := self._peek()) is not None and picture.start < end:
            out.append(picture)
            self._next = None
        return tuple(out)

    def close(self) -> None:
        """Ends the reading; there are no more pictures."""
        self._closed.set()

    @property
    def _over(self) -> bool:
        return self._closed.is_set() or self._stopping.is_set()

    def _peek(self) -> Picture | None:
        while self._next is None and not self._ended:
            try:
                found = self._ready.get(timeout=POLL_S)
            except Empty:
                self._ended = self._over
                continue
            if isinstance(found, Picture):
                self._next = found
            else:
                self._ended = True
                if found is not None:  # sound goes on without pictures
                    self._warn(_sentence(found))
        return self._next

    def _read(self) -> None:
        try:
            for picture in self._pictures:
                if not self._put(picture):
                    return
            self._put(None)
        except Exception as error:
            self._put(error)

    def _put(self, item: Picture | Exception | None) -> bool:
        while not self._over:
            try:
                self._ready.put(item, timeout=POLL_S)
                return True
            except Full:
                continue
        return False


def illustrated(
    chunks: Iterable[Chunk],
    pictures: Iterable[Picture],
    stopping: threading.Event,
    warn: Warn = log.warning,
) -> Iterator[Chunk]:
    """``chunks`` with the pictures that came up in each."""
    reel = Reel(pictures, stopping, warn)
    try:
        for chunk in chunks:
            shown = reel.until(chunk.end)
            yield replace(chunk, pictures=shown) if shown else chunk
    finally:
        reel.close()


def _sentence(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    return f"the pictures ended early ({type(error).__name__}: {error}): captions go on without"
