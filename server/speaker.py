"""One live session: its sound, its messages to who speaks, its transcript for who watches.

Between :mod:`server.realtime`, which has the connections, and the pipeline. It outlives a
connection: a client that was cut off comes back, sends on from the last byte that arrived here, and
gets the messages that it missed.

What is unusual: a turn that the client ends, or a pause of many seconds, ends a session of the
pipeline, and the next sound begins another; times and segments count through all of them.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from queue import SimpleQueue

import numpy as np

from dragoman.pipeline.session import Session
from dragoman.server.dialects import Dialect, Message, Settings
from dragoman.server.feed import WAITING_S, Feed
from dragoman.server.hub import Hub
from dragoman.server.refusals import Refusal, invalid, refusal_of
from dragoman.server.runs import Run
from dragoman.server.streams import Bell, Outbox
from dragoman.stages.messages import Caption, SessionOptions

Recording = tuple[Feed, SessionOptions]
Follows = Callable[[], list[Message]]  # what is to be said once all before it was captioned


class Speaker:
    """A live session in a ``dialect``, made in the event loop; it holds a place of the ``hub``
    until it has ended.
    """

    def __init__(self, hub: Hub, dialect: Dialect, id: str, key: str) -> None:
        self.id, self.key, self.dialect = id, key, dialect
        self.received_bytes = 0
        self.connection: object = None  # the one that speaks, if it is there
        self.began_at = self.heard_at = self.left_at = time.monotonic()
        self.outbox = Outbox(hub.limits.window)
        self._hub = hub
        self._feeds: list[Feed] = []  # those with sound that may not have been heard
        self._turn_bytes = 0  # since the last commit
        self._session: Session | None = None
        self._ending = False
        self._holds_place = True
        self._todo: SimpleQueue[Recording | Follows | None] = SimpleQueue()
        self._lock = threading.Lock()
        hub.metrics.sessions.labels("live").inc()
        self.run = Run(self._captions(), Bell(), self._tell, self._over)

    @property
    def waiting_s(self) -> float:
        """Sound that is not yet heard."""
        return sum(feed.behind_s for feed in self._feeds)

    def attach(self, connection: object) -> None:
        """Whoever speaks is at ``connection`` now; what still comes from another is not heard."""
        with self._lock:
            self.connection, self.heard_at = connection, time.monotonic()
        self.run.bell.ring()

    def detach(self, connection: object) -> bool:
        """``connection`` has ended; whether it was the one that speaks."""
        with self._lock:
            was_mine = self.connection is connection
            if was_mine:
                self.connection, self.left_at = None, time.monotonic()
            return was_mine

    def hear(self, data: bytes, connection: object) -> None:
        """Takes PCM16, little-endian, mono, and resamples it: not for the event loop. Raises
        Refusal.
        """
        if len(data) % 2:
            raise invalid(f"{len(data)} bytes are no 16-bit samples", "audio", "invalid_audio")
        samples = (np.frombuffer(data, "<i2") / 32_768).astype(np.float32)
        with self._lock:
            if self.connection is not connection:
                return  # it is sent again by the one that took its place
            most = min(self._hub.limits.ahead_s, WAITING_S)
            if self.waiting_s > most:
                raise Refusal(
                    429, "sound_too_far_ahead",
                    f"{most:.0f} s of sound wait to be heard: send it as it is spoken, or a file "
                    "to /v1/audio/transcriptions", "audio",
                )  # fmt: skip
            if self._ending:
                raise invalid("the session is ending: begin another", code="session_ended")
            if not (self._feeds and self._feeds[-1].push(samples)):
                self._begin().push(samples)
            self.received_bytes += len(data)
            self._turn_bytes += len(data)
            self.heard_at = time.monotonic()

    def set(self, settings: Settings) -> None:
        """What comes now is heard by ``settings``."""
        with self._lock:
            self._end_recording()
            self.dialect.settings = settings

    def commit(self) -> None:
        """Ends a turn; raises Refusal for one without sound."""
        with self._lock:
            if not self._turn_bytes:
                raise invalid(
                    "there is no sound to commit: append some first",
                    code="input_audio_buffer_commit_empty",
                )
            self._turn_bytes = 0
            self._end_recording()
            self.say(self.dialect.committed())  # before what follows from it
            self._todo.put(self.dialect.turned)

    def clear(self) -> None:
        """Forgets the sound that waits."""
        with self._lock:
            if self._feeds:
                self._feeds[-1].close()
            self._turn_bytes = 0

    def end(self) -> None:
        """Ends the session behind the captions of what was heard."""
        with self._lock:
            self._end_recording()
            self._ending = True
            self._todo.put(None)

    def give_up(self) -> None:
        """Ends it now; its place is free at once."""
        self.run.leave()
        self._leave_place()
        self.end()
        if (session := self._session) is not None:
            session.stop()

    def say(self, messages: list[Message]) -> None:
        """Sends ``messages`` behind those that were sent, to whoever is connected."""
        self.outbox.put(messages)
        self.run.bell.ring()

    # With the lock held.

    def _begin(self) -> Feed:
        settings = self.dialect.settings
        self._feeds = [feed for feed in self._feeds if feed.behind_s]
        self._feeds.append(Feed(settings.rate_hz))
        self._todo.put((self._feeds[-1], settings.options))
        return self._feeds[-1]

    def _end_recording(self) -> None:
        if self._feeds:
            self._feeds[-1].end()

    # The session's thread.

    def _captions(self) -> Iterator[Caption]:
        """The captions of all recordings, one behind the other."""
        start = segments = 0
        while (todo := self._todo.get()) is not None:
            if not isinstance(todo, tuple):
                self.say(todo())
                continue
            feed, options = todo
            self._session = self._hub.captioner.session(feed, options, pace="live")
            first = segments
            for caption in self._session:
                moved = replace(
                    caption,
                    start=caption.start + start,
                    end=caption.end + start,
                    segment=caption.segment + first,
                    session=self.id,
                )
                segments = moved.segment + 1
                yield moved
            self._hub.metrics.heard_s.labels("live").inc(self._session.heard_s)
            start += feed.samples

    def _tell(self, caption: Caption) -> None:
        self._hub.metrics.captioned(caption)
        self.outbox.put(self.dialect.captioned(caption))

    def _over(self, error: Exception | None) -> None:
        self._ending = True
        if error is not None:
            self.outbox.put([self.dialect.error(refusal_of(error))])
        self.outbox.put(self.dialect.ended())
        metrics = self._hub.metrics
        metrics.sessions.labels("live").dec()
        metrics.ended.labels("live", "failed" if error else "done").inc()
        self.left_at = time.monotonic()
        self._leave_place()

    def _leave_place(self) -> None:
        with self._lock:
            holds, self._holds_place = self._holds_place, False
        if holds:
            self._hub.sessions.leave()


def new_id() -> tuple[str, str]:
    """The name of a session, which who speaks knows, and the key that its viewers are given."""
    return f"sess_{secrets.token_urlsafe(18)}", secrets.token_urlsafe(12)
