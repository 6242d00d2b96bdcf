"""A visitor's live transcript: the recordings of one page, one behind the other.

Between :mod:`demos.browser_routes` and :mod:`demos.browser_runs`. Times count through all
recordings, and through what was not heard between them: such a hole is a row of the transcript.

What is unusual: rows are settled once and never change, in order, so that a page that has some of
them asks for the others only. A recording's are settled behind those of the one before, which may
still be finishing.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal

import numpy as np

from dragoman.demos.browser_history import History
from dragoman.demos.browser_recorded import Recorded
from dragoman.demos.browser_recording import Hole, Recording, kept, moved
from dragoman.demos.browser_runs import PageSession
from dragoman.errors import SessionError
from dragoman.server.feed import WAITING_S, Feed
from dragoman.server.streams import Transcript
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption

RETRY_S = 5.0  # after a failure
UNFINISHED = 2  # recordings of one page at once: one that finishes, and the next
BURST_S = 70.0  # a page may send so much more than the clock says: what it kept while offline
LAG_S = 2.0  # less is no lag
STALLED_S = 10.0  # more is a failure that has not been told yet
NOTED_S = 20.0  # so long a page says what its session went on after

State = Literal["Ready", "Waiting for a free place", "Listening", "Finishing", "Stopped"]
Begin = Callable[[Iterable[np.ndarray], Callable[[Caption], None]], PageSession]


class Superseded(SessionError):
    """Sound of a recording that another one of the same page has taken the place of."""


class TooFast(SessionError):
    """Sound that comes much faster than anybody speaks."""


class Live:
    """What one page said; ``begin`` starts a session on the sound of a recording, which tells its
    captions; ``record`` begins a file of that sound. ``told`` is called after each caption.

    ``era`` counts how often it was cleared: rows of another era are of no use. ``viewers`` is what
    others may see of it, ``pairs`` the languages of its rows, in the order in which they came.
    """

    def __init__(
        self, begin: Begin, record: Callable[[], Recorded], told: Callable[[], None] = lambda: None
    ) -> None:
        self.era = 0
        self.viewers = Transcript()
        self.history = History(self.viewers, told)
        self.recorded = record()
        self.pairs: list[tuple[str, str]] = []
        self._begin_session, self._record, self._on_caption = begin, record, told
        self._begun = 0
        self._rows: list[Caption | Hole] = []
        self._recordings: list[Recording] = []  # the last, and those before it not yet settled
        self._lock = threading.RLock()
        self._take, self._place = 0, 0
        self._missed_s, self._why = 0.0, ""
        self._credit_s, self._credit_at = BURST_S, time.monotonic()

    def hear(self, rate_hz: int, samples: np.ndarray, take: int = 0, at: int | None = None) -> None:
        """Takes the browser's next piece, int16 [S].

        ``at`` is the place of its first sample in the recording ``take``, a number that grows from
        one to the next: what is sent again because an answer got lost is heard once. None: it
        follows what came before. Raises Superseded and TooFast.
        """
        with self._lock:
            self._spend(len(samples) / rate_hz)
            samples = self._unheard(samples, rate_hz, take, at)
            if len(samples):
                self._push(rate_hz, (samples / 32_768).astype(np.float32))

    def stop(self, take: int | None = None) -> None:
        """Recording has stopped, or ``take`` has if it is still the newest: the last captions come,
        then the session ends.
        """
        with self._lock:
            if self._recordings and take in (None, self._take):
                self._recordings[-1].feed.end()

    def clear(self) -> None:
        """Forgets everything; a recording that goes on starts anew."""
        with self._lock:
            for recording in self._recordings:
                recording.feed.close()
                recording.run.leave()
            self._recordings, self._rows, self.pairs = [], [], []
            self._missed_s = 0.0
            self.era += 1
            self.history.close()
            self.recorded.close()
            self.history = History(self.viewers, self._on_caption, self.history.next)
            self.recorded = self._record()

    def close(self) -> None:
        """Ends it for good."""
        self.clear()
        self.recorded.close()

    def rows(self, since: int = 0) -> tuple[list[Caption | Hole], list[Caption]]:
        """The settled rows but the first ``since``, and the captions that still may change."""
        with self._lock:
            self._settle()
            return self._rows[since:], self._open()

    def captions(self) -> list[Caption]:
        """All captions in order, times and numbers counted through all recordings."""
        settled, unsettled = self.rows()
        found = [row for row in settled if isinstance(row, Caption)] + unsettled
        return [replace(c, segment=number, seq=number) for number, c in enumerate(found)]

    @property
    def holes(self) -> list[Hole]:
        return [row for row in self.rows()[0] if isinstance(row, Hole)]

    @property
    def is_empty(self) -> bool:
        return not (self._rows or self._recordings)

    @property
    def listening(self) -> bool:
        """Whether a session runs, be it only to finish."""
        last = self._last()
        return last is not None and not last.run.done

    @property
    def state(self) -> State:
        last = self._last()
        if last is None:
            return "Ready"
        if last.run.done:
            return "Stopped"
        if last.run.waits:
            return "Waiting for a free place"
        return "Finishing" if last.feed.ended else "Listening"

    @property
    def heard_s(self) -> float:
        last = self._last()
        return 0.0 if last is None else last.end / SAMPLE_RATE_HZ

    @property
    def lag_s(self) -> float:
        """How much was said that has no captions yet, though its segment is open or nobody has
        taken the sound; 0 where captions keep up.
        """
        last = self._last()
        if last is None or last.run.done or last.run.waits:
            return 0.0
        _, partial = last.run.captions(last.settled)
        unseen = last.feed.samples - partial.end if partial else 0
        lag_s = max(last.feed.behind_s, unseen / SAMPLE_RATE_HZ)
        return lag_s if lag_s >= LAG_S else 0.0

    @property
    def note(self) -> str:
        """What the present recording went on after a moment ago, as a sentence, or nothing."""
        if self.recorded.full:
            return "The sound is not kept any longer: its two hours, or the disk, are full."
        last = self._last()
        at = None if last is None or last.run.done else last.run.warned_at
        if at is None or _ago(at) > NOTED_S:
            return ""
        return "A program behind the captions was replaced. Nothing is lost."

    @property
    def problem(self) -> str:
        """What went wrong in the present recording, as a sentence, or nothing."""
        last = self._last()
        if last is None:
            return ""
        if self.lag_s >= STALLED_S:
            return (
                "Captions are far behind: the programs that make them are too slow, or have "
                "stopped. What you say is kept for a minute."
            )
        return last.run.error

    def _last(self) -> Recording | None:
        with self._lock:
            return self._recordings[-1] if self._recordings else None

    # Sound, with the lock held.

    def _spend(self, seconds: float) -> None:
        """Refuses sound that is far ahead of the clock, which would take others' time."""
        now = time.monotonic()
        self._credit_s = min(BURST_S, self._credit_s + now - self._credit_at)
        self._credit_at = now
        if seconds > self._credit_s:
            raise TooFast("sound comes faster than it was spoken: send it in real time")
        self._credit_s -= seconds

    def _unheard(self, samples: np.ndarray, rate_hz: int, take: int, at: int | None) -> np.ndarray:
        """What of ``samples`` is new; what is missing before them becomes a hole."""
        if take < self._take:
            raise Superseded("another recording of this page has begun: only the newest is heard")
        if take > self._take:
            self._take, self._place = take, 0
            self.stop()
        begin = self._place if at is None else at
        if begin > self._place:
            self._miss((begin - self._place) / rate_hz, "the connection was gone for too long.")
        heard = max(0, self._place - begin)
        self._place = max(self._place, begin + len(samples))
        return samples[heard:]

    def _push(self, rate_hz: int, mono: np.ndarray) -> None:
        last = self._recordings[-1] if self._recordings else None
        if last is not None and last.feed.rate_hz != rate_hz:
            last.feed.end()
        if last is None or self._missed_s or last.run.error or not last.feed.push(mono):
            self._go_on(rate_hz, mono)

    def _go_on(self, rate_hz: int, mono: np.ndarray) -> None:
        """Begins the next recording with ``mono``, or misses it where that must wait."""
        last = self._recordings[-1] if self._recordings else None
        if last is not None and last.run.error and _ago(last.run.ended_at) < RETRY_S:
            return self._miss(len(mono) / rate_hz, "the captions had failed.")
        if last is not None and last.feed.behind_s > WAITING_S / 2:
            return self._miss(len(mono) / rate_hz, "this machine is too slow.")
        self._settle()
        if sum(not recording.run.done for recording in self._recordings) >= UNFINISHED:
            return self._miss(len(mono) / rate_hz, "recordings before it were still finishing.")
        self._begin(rate_hz, len(mono) / rate_hz).push(mono)

    def _miss(self, seconds: float, why: str) -> None:
        """Notes that so much sound is not heard."""
        self._missed_s += seconds
        self._why = why
        self.stop()

    def _begin(self, rate_hz: int, waited_s: float) -> Feed:
        """A recording of which ``waited_s`` are here already."""
        last = self._recordings[-1] if self._recordings else None
        end = last.end if last else 0
        start = end + round(self._missed_s * SAMPLE_RATE_HZ)
        lost = last.told if last and last.run.error else end
        hole = Hole(lost, start, self._why) if start > lost else None
        self._missed_s = 0.0
        feed = Feed(rate_hz)
        run = self._begin_session(self.recorded.heard(feed, start), self._noting(start, waited_s))
        self._recordings.append(Recording(start, feed, run, hole))
        return feed

    def _noting(self, start: int, waited_s: float) -> Callable[[Caption], None]:
        """What takes the captions of a recording that begins at sample ``start``."""
        self._begun += 1
        history, number, began = self.history, self._begun, time.monotonic() - waited_s

        def note(caption: Caption) -> None:
            at_s = start / SAMPLE_RATE_HZ + time.monotonic() - began
            history.note(number, moved(caption, start), at_s)

        return note

    # Rows, with the lock held.

    def _settle(self) -> None:
        """Makes rows of what cannot change any more, and forgets recordings that are told."""
        while self._recordings:
            first = self._recordings[0]
            done = first.run.done  # before the captions: those that come meanwhile count
            if first.hole is not None:
                self._rows.append(first.hole)
                first.hole = None
            finals, partial = first.run.captions(first.settled)
            self._rows += map(first.moved, finals)
            first.settled += len(finals)
            pairs = [(caption.language, caption.target_language) for caption in finals]
            self.pairs = list(dict.fromkeys([*self.pairs, *pairs]))
            if not done or len(self._recordings) == 1:
                return
            if partial is not None:  # its session failed
                self._rows += map(first.moved, kept(partial))
            del self._recordings[0]

    def _open(self) -> list[Caption]:
        found: list[Caption] = []
        for recording in self._recordings:
            finals, partial = recording.run.captions(recording.settled)
            unsettled = [*finals, *([partial] if partial else [])]
            found += map(recording.moved, unsettled)
        return found


def _ago(moment: float | None) -> float:
    return 0.0 if moment is None else time.monotonic() - moment
