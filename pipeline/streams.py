"""Listens to a stream: an address on the network, or what another program writes to our input.

Place: beside :mod:`pipeline.microphone`, in live captions; :mod:`pipeline.media` decodes. A thread
reads ahead a little, so that whoever wants to end need not wait for the network, and a stream that
comes faster than it is heard is held back by its sender.

What is unusual: that a connection breaks is expected. It is made anew until so many seconds have
passed without sound. Meanwhile silence is given out by the clock, so what was said is finished, and
times stay those of the clock; each gap is told, and counted.
"""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Literal

import numpy as np
from av import AudioStream
from av.container import InputContainer

from dragoman.errors import InputError
from dragoman.pipeline.media import Mixer, check_channel, choose, decoded
from dragoman.pipeline.microphone import Level
from dragoman.pipeline.opening import STDIN, Warn, open_stream, shown
from dragoman.stages.messages import SAMPLE_RATE_HZ

log = logging.getLogger(__name__)

PIECES_AHEAD = 400  # of some 20 to 60 ms each
POLL_S = 0.1
RECONNECT_S = 60.0
RETRY_S = 1.0  # from one attempt to connect to the next, at least
HOLE_S = 10.0  # longer ones between time stamps are broken time stamps


@dataclass(frozen=True)
class _Gap:
    """For so many seconds nothing has come, as the connection broke."""

    seconds: float

    @property
    def samples(self) -> int:
        return round(self.seconds * SAMPLE_RATE_HZ)


_Item = np.ndarray | _Gap | Exception | None  # None: that was all


def _ago(moment: float) -> float:
    return time.monotonic() - moment


class Stream:
    """An open stream, to be iterated over once: pieces float32 [S] in [-1, 1] at 16 kHz, mono.

    ``place`` is an address or "-"; ``raw_hz`` says that it is int16 samples. Opening raises
    InputError where there is no sound. Iterating raises it, after the last sound, when for
    ``reconnect_s`` no connection could be had. ``stop`` ends it at once, ``duration_s`` after so
    much sound. ``warn`` is told of gaps, by the thread that iterates.
    """

    def __init__(
        self,
        place: str,
        *,
        language: str | None = None,
        channel: int | None = None,
        raw_hz: int | None = None,
        reconnect_s: float = RECONNECT_S,
        duration_s: float | None = None,
        warn: Warn = log.warning,
    ) -> None:
        self.name = shown(place)
        self.level = Level(SAMPLE_RATE_HZ)
        self.gaps: list[tuple[float, float]] = []  # seconds: where, how long
        self.warn = warn
        self._place, self._raw_hz = place, raw_hz
        self._language, self._channel = language, channel
        self._reconnect_s = 0.0 if place == STDIN else reconnect_s
        self._left = float("inf") if duration_s is None else round(duration_s * SAMPLE_RATE_HZ)
        self._given = 0
        self._queue: Queue[_Item] = Queue(PIECES_AHEAD)
        self._heard_at = time.monotonic()
        self._away_since: float | None = None  # while there is no connection
        self._stopping = threading.Event()
        self._container, self._track = self._open()
        self._ends = self._container.duration is not None
        self._reader = threading.Thread(target=self._read, name="stream", daemon=True)

    @property
    def pace(self) -> Literal["real-time", "live"]:
        """What is stored elsewhere comes as fast as it can; else the sender has a clock."""
        return "real-time" if self._ends and self._place != STDIN else "live"

    @property
    def waiting_s(self) -> float:
        """Seconds of live sound that nobody has taken yet."""
        if self.pace != "live":
            return 0.0
        with self._queue.mutex:
            waiting = [len(item) for item in self._queue.queue if isinstance(item, np.ndarray)]
        return sum(waiting) / SAMPLE_RATE_HZ

    @property
    def stopped(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """Ends the stream after what was given out."""
        self._stopping.set()

    def close(self) -> None:
        self.stop()
        if not self._reader.is_alive():
            self._container.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        self._reader.start()
        for piece in self._pieces():
            piece = piece[: int(min(self._left, len(piece)))]
            self._left -= len(piece)
            self._given += len(piece)
            yield piece
            if self._left <= 0:
                break
        self.stop()

    def _pieces(self) -> Iterator[np.ndarray]:
        """Sound as it comes, and silence by the clock while none can come."""
        silence = 0  # samples of the gap that is open
        while not self.stopped:
            try:
                piece = self._queue.get(timeout=POLL_S)
            except Empty:
                since = self._away_since
                piece = _Gap(0.0 if since is None else _ago(since))
            if isinstance(piece, _Gap):
                missing = piece.samples - silence
                if missing > 0:
                    if not silence:
                        at_s = self._given / SAMPLE_RATE_HZ
                        self.warn(f"{self.name} broke off at {at_s:.1f} s: connecting again ...")
                    silence += missing
                    yield np.zeros(missing, np.float32)
                continue
            if silence:
                end_s, gap_s = self._given / SAMPLE_RATE_HZ, silence / SAMPLE_RATE_HZ
                self.gaps.append((end_s - gap_s, gap_s))
                silence = 0
            if piece is None:
                return
            if isinstance(piece, Exception):
                raise piece
            self.level.take(piece)
            yield piece

    # The reader's thread.

    def _read(self) -> None:
        """Puts all sound into the queue, then what ended it."""
        try:
            self._put(self._follow())
        except InputError as error:
            self._put(InputError(f"{self.name}: {error}"))
        except Exception as error:
            self._put(error)

    def _follow(self) -> InputError | None:
        """Puts the sound of one connection after another; what was wrong at the end of it."""
        while True:
            mixer = Mixer(channel=self._channel, leap_s=HOLE_S)
            with self._container:
                for piece in decoded(self._container, self._track, mixer):
                    self._put(piece)
                    self._heard_at = time.monotonic()
                    if self.stopped:
                        return None
            if self._ends or self._place == STDIN:
                return self._cut_off(mixer.damage.broken_off)
            self._away_since = since = self._heard_at
            error = self._connect()
            self._away_since = None
            self._put(_Gap(_ago(since)))
            if error is not None or self.stopped:
                return error

    def _cut_off(self, why: str | None) -> InputError | None:
        """What ends sound that has an end: nothing, or what is wrong where it came too soon."""
        if not why or self.stopped:
            return None
        return InputError(f"{self.name} could not be read to its end ({why}): start again")

    def _connect(self) -> InputError | None:
        """Opens the stream again; what is wrong where that takes too long."""
        end, why = time.monotonic() + self._reconnect_s, "it ended"
        while not self.stopped and time.monotonic() < end:
            # Some senders take every connection and end it at once.
            if self._stopping.wait(max(0.0, RETRY_S - _ago(self._tried_at))):
                break
            try:
                self._container, self._track = self._open()
                return None
            except InputError as error:
                why = str(error)
        return InputError(
            f"{self.name} has given no sound for {self._reconnect_s:.0f} s: {why} (--reconnect "
            "SECONDS waits longer)"
        )

    def _open(self) -> tuple[InputContainer, AudioStream]:
        self._tried_at = time.monotonic()
        container = open_stream(self._place, self._raw_hz)
        try:
            track = choose(container, self.name, None, self._language, log.info)
            check_channel(track, self.name, self._channel)
        except InputError:
            container.close()
            raise
        return container, track

    def _put(self, piece: _Item) -> None:
        while not self.stopped:
            try:
                return self._queue.put(piece, timeout=POLL_S)
            except Full:
                continue
