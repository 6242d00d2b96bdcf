"""How the captions of a page came: the newest of each segment for viewers, and all of the last few.

Between the sessions of a page, whose threads note captions here, and those who look:
:mod:`server.viewers`, :mod:`demos.browser_inside`. Segments are numbered through all recordings, in
the order in which they began to be captioned.
"""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from dragoman.server.streams import Transcript
from dragoman.stages.messages import Caption

SEGMENTS = 8  # are remembered with all their updates


@dataclass(frozen=True)
class Update:
    """A caption, and when it came, in seconds of the transcript's time."""

    at_s: float
    caption: Caption


class History:
    """Of one transcript until it is cleared: ``first`` is the number of its first segment.

    Captions go on to ``viewers``; ``told`` is called after each, in the thread that noted it.
    """

    def __init__(self, viewers: Transcript, told: Callable[[], None], first: int = 0) -> None:
        self._viewers, self._told, self._first = viewers, told, first
        self._numbers: dict[tuple[int, int], int] = {}
        self._updates: OrderedDict[int, list[Update]] = OrderedDict()
        self._name, self._count = secrets.token_hex(8), 0
        self._closed = False
        self._lock = threading.Lock()

    @property
    def next(self) -> int:
        """The number of the next segment."""
        return self._first + len(self._numbers)

    def note(self, recording: int, caption: Caption, at_s: float) -> None:
        """Takes a caption of the recording of that number, in times of the transcript."""
        with self._lock:
            if self._closed:
                return
            number = self._numbers.setdefault((recording, caption.segment), self.next)
            self._count += 1  # viewers know a caption by session, segment and number
            caption = replace(caption, session=self._name, segment=number, seq=self._count)
            self._updates.setdefault(number, []).append(Update(at_s, caption))
            while len(self._updates) > SEGMENTS:
                self._updates.popitem(last=False)
            self._viewers.put(caption)
        self._told()

    def updates(self, number: int) -> list[Update]:
        """All captions of a segment, if it is one of the last."""
        with self._lock:
            return list(self._updates.get(number, ()))

    def finished(self) -> list[Caption]:
        """The final captions with words of the last segments, in order."""
        with self._lock:
            last = [updates[-1].caption for updates in self._updates.values()]
        return [c for c in last if c.kind == "final" and c.transcript.whole]

    def close(self) -> None:
        """Forgets all, for viewers who come later, too; what still comes is not taken."""
        with self._lock:
            self._closed = True
            self._updates.clear()
            self._viewers.clear()
