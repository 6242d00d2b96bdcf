"""Listens to a microphone: its sound as a stream of 16 kHz, mono, float32, as :mod:`pipeline.media`
gives that of a file.

Feeds captions of a live session. A device is opened at its own rate and with its own channels,
which are mixed (:mod:`pipeline.channels`); one resampler runs through the whole session, so nothing
clicks where blocks meet. What is unusual: the thread that PortAudio calls only mixes, measures and
puts into a queue. When nobody empties the queue, sound is lost rather than memory; it is counted,
and silence takes its place, so times stay right.
"""

import math
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman.errors import InputError
from dragoman.pipeline.channels import Downmix
from dragoman.pipeline.devices import Device, sounddevice, without_chatter
from dragoman.pipeline.resampling import Resampler

MIXER_CHANNELS = 8  # a device with more is a sound server's, which mixes down to what is asked for
WAITING_S = 30.0  # sound kept for a consumer that lags
POLL_S = 0.1
STALLED_S = 10.0  # PulseAudio may deliver two seconds at a time
FLOOR_DBFS = -90.0
QUIET_DBFS = -60.0  # below speech, above the noise of a muted input
QUIET_S = 5.0
FALL_DB_PER_S = 40.0
UNAVAILABLE, INVALID_CHANNELS = -9985, -9998  # PortAudio's codes


@dataclass
class Level:
    """How loud it is: ``dbfs`` follows a block's RMS up at once and falls slowly, as meters do."""

    rate_hz: int
    dbfs: float = FLOOR_DBFS
    quiet_frames: int = 0
    ever_heard: bool = False

    def take(self, mono: np.ndarray) -> None:
        """Measures a block, float32 [S]."""
        power = float(mono @ mono) / max(1, len(mono))
        now = 10 * math.log10(power) if power > 10 ** (FLOOR_DBFS / 10) else FLOOR_DBFS
        self.dbfs = max(now, self.dbfs - FALL_DB_PER_S * len(mono) / self.rate_hz, FLOOR_DBFS)
        self.quiet_frames = 0 if now > QUIET_DBFS else self.quiet_frames + len(mono)
        self.ever_heard |= now > QUIET_DBFS

    @property
    def quiet_s(self) -> float:
        """Seconds since something was heard."""
        return self.quiet_frames / self.rate_hz


class Microphone:
    """An open device, to be iterated over once: pieces float32 [S] in [-1, 1] at 16 kHz.

    Opening raises InputError when the device is busy or gone; iterating starts it, and raises
    InputError, after the last sound, when it goes away. ``stop`` ends the stream after what has
    been heard by then, ``duration_s`` after that much sound.
    """

    def __init__(
        self, device: Device, duration_s: float | None = None, channel: int | None = None
    ) -> None:
        if channel is not None and channel > device.channels:
            raise InputError(f"{device.name} has no channel {channel}: it has {device.channels}")
        self.device = device
        self.level = Level(device.rate_hz)
        self.lost_frames = 0  # the queue was full
        self.overflows = 0  # the system lost sound before it came here: how often, not how much
        self._left = math.inf if duration_s is None else round(duration_s * device.rate_hz)
        self._queue: queue.SimpleQueue[tuple[int, np.ndarray]] = queue.SimpleQueue()
        self._put = self._taken = 0  # frames; each is written by one thread only
        self._lost_since = 0
        self._downmix = Downmix(device.rate_hz, channel)
        self._stopping, self._ended = threading.Event(), threading.Event()
        self._sounddevice = sounddevice()
        self._stream = self._open()

    @property
    def lost_s(self) -> float:
        """Seconds of sound that silence has taken the place of."""
        return self.lost_frames / self.device.rate_hz

    @property
    def heard_s(self) -> float:
        """Seconds of sound that came from the device."""
        return (self._put + self.lost_frames) / self.device.rate_hz

    @property
    def waiting_s(self) -> float:
        """Seconds of sound that nobody has taken yet."""
        return (self._put - self._taken) / self.device.rate_hz

    @property
    def stopped(self) -> bool:
        """Whether the stream ends, or has ended: nothing more is heard."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Ends the stream; what was heard so far is still given out."""
        self._stopping.set()

    def close(self) -> None:
        """Gives the device back; may be called more than once."""
        self._stopping.set()
        with without_chatter():
            self._stream.close(ignore_errors=True)

    def __iter__(self) -> Iterator[np.ndarray]:
        self._start()
        resampler = Resampler(self.device.rate_hz)
        error = None
        try:
            for mono in self._blocks():
                piece = resampler.step(mono)
                if len(piece):
                    yield piece
        except InputError as raised:
            error = raised
        finally:
            self._stopping.set()
        if self._ended.is_set():  # PortAudio's thread has left the downmix
            yield resampler.step(self._cut(self._downmix.flush()))
        yield resampler.flush()
        if error is not None:
            raise error

    def _blocks(self) -> Iterator[np.ndarray]:
        """Blocks as the device gave them, silence for lost ones, until the end or the duration."""
        since = time.monotonic()
        while self._left > 0:
            ended = self._ended.is_set()  # looked up first: nothing is put after it
            try:
                lost, mono = self._queue.get(timeout=0 if ended else POLL_S)
            except queue.Empty:
                if self._stopping.is_set():
                    return
                if ended or time.monotonic() - since > STALLED_S:
                    raise self._gone(stalled=not ended) from None
                continue
            since = time.monotonic()
            self._taken += len(mono)
            for start in range(0, lost, self.device.rate_hz):
                yield self._cut(np.zeros(min(self.device.rate_hz, lost - start), np.float32))
            yield self._cut(mono)

    def _cut(self, mono: np.ndarray) -> np.ndarray:
        """No more than is left of the duration."""
        if len(mono) > self._left:
            mono = mono[: int(self._left)]
        self._left -= len(mono)
        return mono

    # PortAudio's thread: nothing here may wait.

    def _hear(self, block: np.ndarray, frames: int, times: Any, status: Any) -> None:
        if status.input_overflow:
            self.overflows += 1
        # This also copies: PortAudio takes its buffer back.
        mono = np.clip(self._downmix.step(np.nan_to_num(block.T)), -1.0, 1.0)
        self.level.take(mono)
        if self._put - self._taken + frames > WAITING_S * self.device.rate_hz:
            self.lost_frames += frames
            self._lost_since += frames
        else:
            self._put += frames
            self._queue.put((self._lost_since, mono))
            self._lost_since = 0
        if self._stopping.is_set():
            raise self._sounddevice.CallbackStop

    # Opening and explaining.

    def _open(self) -> Any:
        device = self.device
        few = device.channels <= MIXER_CHANNELS or (self._downmix.only or 0) > 2
        counts = [device.channels] if few else [2, device.channels]
        for channels in counts:
            try:
                with without_chatter():
                    return self._sounddevice.InputStream(
                        device=device.index,
                        channels=channels,
                        samplerate=device.rate_hz,
                        dtype="float32",
                        latency="high",
                        callback=self._hear,
                        finished_callback=self._ended.set,
                    )
            except self._sounddevice.PortAudioError as error:
                if _code(error) != INVALID_CHANNELS or channels == counts[-1]:
                    raise _unopened(device, error) from error
        raise AssertionError("the last attempt returns or raises")

    def _start(self) -> None:
        try:
            self._stream.start()
        except self._sounddevice.PortAudioError as error:
            raise _unopened(self.device, error) from error

    def _gone(self, stalled: bool) -> InputError:
        what = f"has given no sound for {STALLED_S:.0f} s" if stalled else "went away"
        return InputError(
            f"microphone {self.device.name!r} {what}, {self.heard_s:.1f} s after the start "
            "(unplugged, or the sound server ended): connect it, and start again"
        )


def _unopened(device: Device, error: Exception) -> InputError:
    others = "or choose another with --microphone (--list-devices shows them)"
    if _code(error) == UNAVAILABLE:
        return InputError(
            f"microphone {device.name!r} is in use by another program, or was unplugged: "
            f"end that program, {others}"
        )
    return InputError(
        f"microphone {device.name!r} could not be opened ({error.args[0]}): "
        f"check that it is connected and switched on, {others}"
    )


def _code(error: Exception) -> int | None:
    return error.args[1] if len(error.args) > 1 else None
