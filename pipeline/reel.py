"""Hands out pictures in step with sound.

Between a source of pictures, such as :mod:`pipeline.frames`, and :mod:`pipeline.session`. What is
unusual: the sound waits for the picture after the present one, since only that tells that there is
none in between; so which pictures a session sees does not depend on how fast anything was read.
"""

import logging
import threading
from collections import deque
from collections.abc import Iterable
from queue import Empty, Full, Queue

from stages.illustrate import REMEMBERED
from stages.messages import Picture

log = logging.getLogger(__name__)

AHEAD = 2
POLL_S = 0.1


class Reel:
    """Pictures in step with sound: a thread reads a little ahead, :meth:`until` hands out.

    Which pictures come with which stretch of sound depends on their times alone, so the source has
    to be as fast as the sound: :meth:`until` waits for the picture that comes after.
    """

    def __init__(self, pictures: Iterable[Picture], stopping: threading.Event) -> None:
        """``stopping``, once it is set, ends the reading like :meth:`close`."""
        self._pictures, self._stopping = pictures, stopping
        self._ready: Queue[Picture | None] = Queue(AHEAD)
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
                self._next = self._ready.get(timeout=POLL_S)
                self._ended = self._next is None
            except Empty:
                self._ended = self._over
        return self._next

    def _read(self) -> None:
        try:
            for picture in self._pictures:
                if not self._put(picture):
                    return
        except Exception:  # sound goes on without pictures
            log.warning("the pictures of a session ended early", exc_info=True)
        self._put(None)

    def _put(self, item: Picture | None) -> bool:
        while not self._over:
            try:
                self._ready.put(item, timeout=POLL_S)
                return True
            except Full:
                continue
        return False
