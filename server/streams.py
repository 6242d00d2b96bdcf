"""What sessions' threads write and connections' coroutines read; neither waits for the other.

Between :mod:`server.runs`, which writes, and every route that follows a session. A reader has a
place in what was written, not a queue of its own: so a thousand readers cost no more memory than
one, a slow one skips what was replaced meanwhile, and one that comes back goes on where it was.
"""

import asyncio
import json
import secrets
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from dragoman.server.refusals import Refusal
from dragoman.stages.messages import Caption


class Bell:
    """Wakes all coroutines that wait for it; rung from any thread.

    Made in the event loop. What was written before it is rung is seen by whoever it wakes.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def ring(self) -> None:
        with suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(self._wake)

    async def heard(self, within_s: float) -> bool:
        """Waits until it is rung, for so long at most. To be called without any other wait since
        one looked whether there is something new.
        """
        try:
            await asyncio.wait_for(self._rung.wait(), within_s)
        except TimeoutError:
            return False
        return True

    def _wake(self) -> None:
        rung, self._rung = self._rung, asyncio.Event()
        rung.set()


class Transcript:
    """The newest caption of each segment; one thread writes, any may read.

    Places in it count changes, not captions: a reader asks for all segments that changed since its
    own place, and gets each once, as it is now. ``name`` tells the places of one from another's.
    """

    def __init__(self) -> None:
        self.name = secrets.token_hex(4)
        self._captions: dict[int, tuple[int, Caption]] = {}  # by segment, in order of change
        self._changes = 0
        self._lock = threading.Lock()

    def put(self, caption: Caption) -> None:
        with self._lock:
            self._changes += 1
            self._captions.pop(caption.segment, None)
            self._captions[caption.segment] = self._changes, caption

    def clear(self) -> None:
        """Forgets all captions, and no place."""
        with self._lock:
            self._captions.clear()

    def after(self, place: int, most: int | None = None) -> tuple[int, list[Caption]]:
        """The captions that changed behind ``place``, the newest ``most`` of them, and the place of
        the last.
        """
        found: list[Caption] = []
        with self._lock:
            for change, caption in reversed(self._captions.values()):
                if change <= place or len(found) == most:
                    break
                found.append(caption)
            return self._changes, found[::-1]

    @property
    def finals(self) -> list[Caption]:
        """The final captions in order."""
        return [caption for caption in self.after(0)[1] if caption.kind == "final"]


class Outbox:
    """Messages to one client in order, numbered from 1; the last ``window`` of them are kept."""

    def __init__(self, window: int) -> None:
        self.count = 0
        self._kept: deque[str] = deque(maxlen=window)
        self._lock = threading.Lock()

    def put(self, messages: Sequence[dict[str, Any]]) -> list[str]:
        """Numbers ``messages`` and keeps them; the lines that were made of them."""
        with self._lock:
            return [self._numbered(message) for message in messages]

    def after(self, seq: int) -> list[str]:
        """The messages behind number ``seq``; raises Refusal where some are no longer kept."""
        with self._lock:
            behind = self.count - seq
            if behind < 0:
                raise Refusal(
                    409, "unknown_sequence",
                    f"message {seq} was never sent, the last one is {self.count}", "after",
                )  # fmt: skip
            if behind > len(self._kept):
                raise Refusal(
                    409, "too_far_behind",
                    f"{behind} messages were not read and {len(self._kept)} are kept: "
                    "begin a new session", "after",
                )  # fmt: skip
            return list(self._kept)[len(self._kept) - behind :]

    def _numbered(self, message: dict[str, Any]) -> str:
        self.count += 1
        numbered = {**message, "event_id": f"event_{self.count}", "seq": self.count}
        self._kept.append(json.dumps(numbered, ensure_ascii=False))
        return self._kept[-1]
