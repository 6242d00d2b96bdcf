"""How much the server takes: of sessions, sound, messages, memory and disk.

A place is had at once or refused, nobody waits for one. What a client may keep here is bounded by
the limits of its session: sound not yet heard, messages not yet read, one file.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dragoman.server.refusals import Refusal


@dataclass(frozen=True)
class Limits:
    """What is refused beyond; times in seconds.

    ``sessions`` are live ones at once, ``files`` those being received or captioned, ``viewers``
    those of all sessions. ``ahead_s`` is the sound that may wait to be heard, ``idle_s`` how long a
    live session may go without any, ``resume_s`` how long it is kept without a connection.
    ``window`` is the number of messages that a client may be behind.
    """

    sessions: int = 16
    files: int = 2
    viewers: int = 500
    upload_bytes: int = 512 * 2**20
    upload_s: float = 600.0
    room_bytes: int = 2**30  # of the disk, that uploads leave free
    session_s: float = 4 * 3_600.0
    idle_s: float = 60.0
    ahead_s: float = 60.0
    resume_s: float = 60.0
    message_bytes: int = 2**20
    messages_per_s: float = 200.0
    burst_messages: int = 8_000
    faults: int = 20  # messages that make no sense, until the connection is closed
    window: int = 4_096

    @property
    def places(self) -> int:
        """All that can be taken at once."""
        return self.sessions + self.files + self.viewers


class Places:
    """So many ``places`` of one kind; ``what`` names them in the refusal."""

    def __init__(self, places: int, what: str) -> None:
        self.places, self._what = places, what
        self.taken = 0
        self._lock = threading.Lock()

    def take(self) -> None:
        """Takes one, to be given back by :meth:`leave`; raises Refusal where there is none."""
        with self._lock:
            self.check()
            self.taken += 1

    def check(self) -> None:
        """Raises Refusal where there is none."""
        if self.is_full:
            raise Refusal(
                429,
                "server_full",
                f"all {self.places} places for {self._what} are taken: try again later",
            )

    @property
    def is_full(self) -> bool:
        return self.taken >= self.places

    def leave(self) -> None:
        with self._lock:
            self.taken -= 1

    @contextmanager
    def held(self) -> Iterator[None]:
        """A place while the context lasts; raises Refusal."""
        self.take()
        try:
            yield
        finally:
            self.leave()


class Allowance:
    """A token bucket: ``burst`` at once, and ``per_s`` on the average."""

    def __init__(self, burst: float, per_s: float) -> None:
        self._burst, self._per_s = burst, per_s
        self._left, self._at = burst, time.monotonic()

    def spend(self, amount: float = 1.0) -> bool:
        """Takes ``amount``; False where so much is not left."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if amount > self._left:
            return False
        self._left -= amount
        return True
