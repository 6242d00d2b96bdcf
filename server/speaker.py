"""One live session: its sound, its messages to who speaks, its transcript for who watches.

Between :mod:`server.realtime`, which has the connections, and the pipeline. It outlives a
connection, and with a journal its process: a client that was cut off comes back, sends on from the
last byte that arrived here, and gets the messages that it missed.

What is unusual: a turn that the client ends, or a pause of many seconds, ends a session of the
pipeline, and the next sound begins another; times and segments count through all of them.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from queue import SimpleQueue
from typing import Any

import numpy as np

from dragoman.pipeline.events import Ledger
from dragoman.pipeline.session import Session
from dragoman.server.dialects import DIALECTS
from dragoman.server.feed import WAITING_S, Feed
from dragoman.server.hub import Hub
from dragoman.server.journal import FILE_S, FILES, OVER, Journal, caption_of, caption_record
from dragoman.server.refusals import Refusal, invalid, refusal_of
from dragoman.server.runs import Run
from dragoman.server.settings import Message, Settings
from dragoman.server.streams import Bell, Outbox
from dragoman.stages.messages import Caption, SessionOptions

Recording = tuple[Feed, SessionOptions]
Record = dict[str, Any]
# What clients ask for at a place in the sound, and what is written once it is done there.
ASKED = {"committed": "turned", "clear": "cleared", "end": OVER}
NOTES = ("clear", "end")  # make no messages yet
RESTORED_S = WAITING_S + FILE_S * FILES  # of sound that may wait in a feed


class Speaker:
    """A live session, made in the event loop; it holds a place of the ``hub`` until it has ended.

    ``about`` is told of it in its messages, `id` among it.
    """

    def __init__(self, hub: Hub, about: Message, kind: str, settings: Settings) -> None:
        self.id, self.about = str(about["id"]), about
        self.received_bytes = 0
        self.connection: object = None  # the one that speaks, if it is there
        self.began_at = self.heard_at = self.left_at = time.monotonic()
        self.outbox = Outbox(hub.limits.window)
        self._hub = hub
        self._journal: Journal | None = None
        self._feeds: list[Feed] = []  # those with sound that may not have been heard
        self._turn_bytes = 0  # since the last commit
        self._start = self._segment = 0  # where the next recording begins
        self._ledger: Ledger | None = None  # of a segment that another process had begun
        self._session: Session | None = None
        self._ending, self._holds_place = False, True
        self._left = False  # to another process
        self._todo: SimpleQueue[Recording | None | str] = SimpleQueue()
        self._lock = threading.Lock()  # of the sound
        self._order = threading.Lock()  # of what makes messages
        hub.metrics.sessions.labels("live").inc()
        self.dialect = DIALECTS[kind](settings, about)
        self.run = Run(self._captions(), Bell(), self._tell, self._over)

    def keep(self, journal: Journal, kind: str) -> None:
        """Writes what happens into ``journal`` from now on."""
        self._journal = journal
        self._begins(kind, self.dialect.settings)

    def turn_to(self, kind: str, settings: Settings) -> None:
        """Speaks as clients of another kind expect it, before anything was said."""
        self._begins(kind, settings)
        self.dialect = DIALECTS[kind](settings, self.about)

    @property
    def options(self) -> SessionOptions:
        """Those that are in force."""
        return self.dialect.settings.options

    def is_wanted(self) -> bool:
        """Whether another process asks for this session; looks on the disk."""
        return self._journal is not None and self._journal.is_wanted

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

    # What a client asks for. It may wait for a moment: not for the event loop.

    def hear(self, data: bytes, connection: object) -> None:
        """Takes PCM16, little-endian, mono, and resamples it; raises Refusal."""
        if len(data) % 2:
            raise invalid(f"{len(data)} bytes are no 16-bit samples", "audio", "invalid_audio")
        with self._lock:
            if self.connection is not connection:
                return  # it is sent again by the one that took its place
            most = min(self._hub.limits.ahead_s, WAITING_S)
            if self.waiting_s > most:
                for feed in self._feeds:  # else a flood would cost others what it takes to hear it
                    feed.close()
                raise Refusal(
                    429, "sound_too_far_ahead",
                    f"{most:.0f} s of sound wait to be heard: send it as it is spoken, or a file "
                    "to /v1/audio/transcriptions", "audio",
                )  # fmt: skip
            if self._ending:
                raise invalid("the session is ending: begin another", code="session_ended")
            if self._journal is not None:
                self._journal.hear(data, self.dialect.settings.rate_hz)
            self._push(data)
            self.heard_at = time.monotonic()

    def set(self, settings: Settings) -> None:
        """What comes now is heard by ``settings``."""
        with self._lock:
            self._end_recording()
            self._do({"do": "set", "settings": asdict(settings)})

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
            self._do(self._here("committed"))  # before what follows from it
            self._todo.put("turned")

    def clear(self) -> None:
        """Forgets the sound of a turn that has not ended."""
        with self._lock:
            if self._feeds:
                self._feeds[-1].close()
            self._turn_bytes = 0
            self._note(self._here("clear"))
            self._todo.put("cleared")  # behind the captions of what was heard already

    def end(self) -> None:
        """Ends the session behind the captions of what was heard."""
        with self._lock:
            self._end_recording()
            self._ending = True
            self._note(self._here("end"))
            self._todo.put(None)

    def give_up(self) -> None:
        """Ends it now; its place is free at once, and what is on disk goes."""
        self._leave()
        if self._journal is not None:
            self._journal.close()

    def leave_to_another(self) -> None:
        """Ends it now, and leaves what is on disk to the process that takes this one's place."""
        with self._lock, self._order:  # behind what is half done: all that was told is written
            self._left = True
            if self._journal is not None:
                self.run.moved = True
                self._journal.release()
        self._leave()

    def _leave(self) -> None:
        self.run.leave()
        self._leave_place()
        self.end()
        if (session := self._session) is not None:
            session.stop()

    def restore(self, journal: Journal, records: Iterable[Record]) -> None:
        """Goes on where another process stood that had written ``records``."""
        asked: list[Record] = []  # what the other one had not come to
        last, done, over = None, 0, False
        for record in records:
            last = self._done_before(record) or last
            over = record["do"] == OVER
            if record["do"] in ASKED:
                asked.append(record)
            elif record["do"] in ASKED.values():
                done = asked.pop(0)["index"]
        if last is not None:
            ended = last.kind == "final"
            self._start, self._segment = (
                last.end if ended else last.start, last.segment + ended
            )  # fmt: skip
            self._ledger = Ledger()
            self._ledger.check(last)
        self._journal = journal
        if over:
            return self.end()
        with self._lock:
            self._hear_again(journal, max(self._start, done), asked)
            turns = [done, *(record["index"] for record in asked)]
            self._turn_bytes = max(0, journal.end - turns[-1])
            self.received_bytes = journal.received_bytes

    # With the lock of the sound held.

    def _hear_again(self, journal: Journal, start: int, asked: Iterable[Record]) -> None:
        """Takes the sound from index ``start`` on, and does at its places what was ``asked``."""
        for do, index in (*((one["do"], one["index"]) for one in asked), ("", journal.end)):
            for at, rate_hz, data in journal.sound(start, index):
                self._start = self._start if self._feeds else at
                self._push(data, rate_hz)
            start = max(start, index)
            if do == "clear" and self._feeds:
                self._feeds[-1].close()
            if do:
                self._end_recording()
                self._ending = self._ending or do == "end"
                self._todo.put(None if do == "end" else ASKED[do])

    def _push(self, data: bytes, rate_hz: int | None = None) -> None:
        samples = (np.frombuffer(data, "<i2") / 32_768).astype(np.float32)
        settings = self.dialect.settings
        rate_hz = rate_hz or settings.rate_hz
        feed = self._feeds[-1] if self._feeds else None
        if feed is None or feed.rate_hz != rate_hz or not feed.push(samples):
            self._end_recording()
            self._feeds = [feed for feed in self._feeds if feed.behind_s]
            self._feeds.append(Feed(rate_hz, RESTORED_S))
            self._todo.put((self._feeds[-1], settings.options))
            self._feeds[-1].push(samples)
        self.received_bytes += len(data)
        self._turn_bytes += len(data)

    def _end_recording(self) -> None:
        if self._feeds:
            self._feeds[-1].end()

    # What makes messages: written first, then done, in one order.

    def _begins(self, kind: str, settings: Settings) -> None:
        told = {"about": self.about, "kind": kind, "settings": asdict(settings)}
        self._note({"do": "begin", **told})

    def _here(self, do: str) -> Record:
        """What is asked for at the end of the sound that is here."""
        return {"do": do, "index": 0 if self._journal is None else self._journal.end}

    def _note(self, record: Record) -> None:
        if self._journal is not None:
            self._journal.write(record)

    def _do(self, record: Record) -> None:
        with self._order:
            if self._left:
                return
            self._note(record)
            self._follow(record)
        self.run.bell.ring()

    def _follow(self, record: Record) -> None:
        do = record["do"]
        if do == "set":
            self.dialect.settings = Settings.of(record["settings"])
        else:
            follows: Callable[[], list[Message]] = getattr(self.dialect, do)
            self.outbox.put(follows())

    def _done_before(self, record: Record) -> Caption | None:
        """Does again what another process did, without writing it; the caption, if it was one."""
        if record["do"] == "begin":
            self.dialect = DIALECTS[record["kind"]](Settings.of(record["settings"]), self.about)
        elif record["do"] == "captioned":
            caption = caption_of(record["caption"])
            self.run.transcript.put(caption)
            self.outbox.put(self.dialect.captioned(caption))
            return caption
        elif record["do"] == OVER:
            self.outbox.put(record["errors"])
        elif record["do"] not in NOTES:
            self._follow(record)
        return None

    # The session's thread.

    def _captions(self) -> Iterator[Caption]:
        """The captions of all recordings, one behind the other."""
        while (todo := self._todo.get()) is not None:
            if isinstance(todo, str):
                self._do({"do": todo})
                continue
            feed, options = todo
            self._session = self._hub.captioner.session(feed, options, pace="live")
            start, first = self._start, self._segment
            for caption in self._session:
                moved = replace(
                    caption,
                    start=caption.start + start,
                    end=caption.end + start,
                    segment=caption.segment + first,
                    session=self.id,
                )
                self._segment = moved.segment + 1
                if (told := self._new(moved)) is not None:
                    yield told
            self._hub.metrics.heard_s.labels("live").inc(self._session.heard_s)
            self._start += feed.samples

    def _new(self, caption: Caption) -> Caption | None:
        """``caption`` without what another process had committed; None where it says no more."""
        if self._ledger is None:
            return caption
        told = self._ledger.again(caption)
        if told is not None:
            self._ledger.check(told)
        return told

    def _tell(self, caption: Caption) -> None:
        self._hub.metrics.captioned(caption)
        with self._order:
            if self._left:
                return
            messages = self.dialect.captioned(caption)
            if messages:
                self._note({"do": "captioned", "caption": caption_record(caption)})
            self.outbox.put(messages)

    def _over(self, error: Exception | None) -> None:
        self._ending = True
        errors = [] if error is None else [self.dialect.error(refusal_of(error))]
        with self._order:
            if not self._left:
                self._note({"do": OVER, "errors": errors})
                self.outbox.put([*errors, *self.dialect.ended()])
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
