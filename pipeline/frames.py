"""The pictures of a video track, sampled where the scene changes.

Feeds a session, through :mod:`pipeline.reel`, beside the sound of :mod:`pipeline.media` and on the
same clock. A picture is taken at the first
frame, where enough of a small grey copy differs from that of the last picture taken, and after 5 s
at the latest. Pictures are upright and at most 1 280 pixels long; nothing but the last two is kept.

What is unusual: pictures are an addition to speech. A file without video has none, and that is no
error. A broken one has those that can be had; that it is broken is said after the last of them.
"""

import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition

from dragoman.errors import InputError
from dragoman.pipeline.media import SHORT_BY_S, left_out
from dragoman.pipeline.opening import Warn, open_media
from dragoman.pipeline.shots import Shots, thumb
from dragoman.stages.messages import Picture, VideoFrame

log = logging.getLogger(__name__)

EVERY_S = 5.0  # after so long a picture is taken, changed or not
APART_S = 1.0  # a change this soon after a picture must last as long to be taken
CHECK_S = 0.09  # frames nearer to each other are not compared
CHANGED_LEVELS = 24  # of 255, by which a pixel of the copy must differ
CHANGED_SHARE = 0.02  # of its pixels: a new line of text on a slide, not a nod of the speaker's
LONGEST = 1280


def shot_changes(path: Path, warn: Warn = log.warning) -> list[float]:
    """The shot changes of the film at ``path``, in seconds; none where it has no picture, and
    ``warn`` is told that a part of it is damaged. Raises InputError for what is no media file.
    """
    open_media(path).close()  # says what is wrong
    shots = Shots()
    try:
        for _ in read_frames(path, shots=shots):
            pass
    except InputError as error:
        warn(str(error))
    return shots.changes


def read_frames(
    path: str | Path, *, every_s: float = EVERY_S, shots: Shots | None = None
) -> Generator[Picture, None, None]:
    """Pictures of the file at ``path`` in the order of time; none where it has no video. ``shots``
    are shown every frame, up to the last picture that was asked for.

    ``time`` of a frame is on the clock of ``read_audio``, to the millisecond; ``index`` counts the
    track's frames from 0. Raises InputError at the end where a part could not be decoded.
    """
    try:
        container = open_media(Path(path))
    except InputError as error:
        log.info("no pictures: %s", error)
        return
    with container:
        stream = _track(container)
        if stream is None:
            return
        sampler, damage = _Sampler(every_s), _Damage()
        for shown in chain(_shown(container, stream, damage), [None]):
            if shots is not None and shown is not None:
                shots.step(shown.thumb, shown.time_s)
            for taken in sampler.step(shown):
                try:
                    frame = VideoFrame(round(taken.time_s, 3), taken.index)
                    yield Picture(frame, _pixels(taken.frame))
                except (FFmpegError, ValueError) as error:
                    log.info("%s: a picture could not be converted (%s)", path, error)
        if damage.packets:
            raise InputError(f"{path}: {left_out(damage.packets, 'video')}")


@dataclass
class _Damage:
    """What could not be decoded of a track, counted while reading."""

    packets: int = 0


@dataclass(frozen=True)
class _Shown:
    """A decoded frame, its place in the track and its time."""

    frame: av.VideoFrame
    index: int
    time_s: float

    @cached_property
    def thumb(self) -> np.ndarray:
        return thumb(self.frame)


class _Sampler:
    """Decides which frames are taken. ``waiting`` changed the scene too soon after the last one."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._taken_s = self._checked_s = float("-inf")
        self._thumb: np.ndarray | None = None
        self._waiting: _Shown | None = None

    def step(self, shown: _Shown | None) -> Iterator[_Shown]:
        """What is taken once ``shown`` is known; None is the end of the track."""
        waiting = self._waiting
        lasted = waiting and (shown is None or shown.time_s - waiting.time_s >= APART_S)
        if waiting is not None and lasted:
            yield self._take(waiting)
        if shown is None or shown.time_s - self._checked_s < CHECK_S:
            return
        self._checked_s = shown.time_s
        since_s = shown.time_s - self._taken_s
        changed = self._thumb is None or _differ(shown.thumb, self._thumb)
        if since_s >= self._every_s or (changed and since_s >= APART_S):
            yield self._take(shown)
        else:
            self._waiting = shown if changed else None

    def _take(self, shown: _Shown) -> _Shown:
        self._taken_s, self._thumb, self._waiting = shown.time_s, shown.thumb, None
        return shown


def _track(container: InputContainer) -> av.VideoStream | None:
    """The first moving picture, as in `media.probe`; the cover of an album is none."""
    for stream in container.streams.video:
        if stream.codec_context and not stream.disposition & Disposition.attached_pic:
            return stream
    return None


def _shown(container: InputContainer, stream: av.VideoStream, damage: _Damage) -> Iterator[_Shown]:
    """Frames whose time can be believed; damaged ones are numbered and left out."""
    origin_s = Fraction(container.start_time or 0, av.time_base)
    length = container.duration
    limit_s = float("inf") if length is None else length / av.time_base + SHORT_BY_S
    last_s = float("-inf")
    for index, frame in enumerate(_decoded(container, stream, damage)):
        if frame.pts is None or frame.time_base is None or frame.is_corrupt:
            continue
        time_s = max(float(frame.pts * frame.time_base - origin_s), 0.0)
        if last_s <= time_s <= limit_s:
            last_s = time_s
            yield _Shown(frame, index, time_s)


def _decoded(
    container: InputContainer, stream: av.VideoStream, damage: _Damage
) -> Iterator[av.VideoFrame]:
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (FFmpegError, OSError) as error:
            log.info("%s: its video breaks off (%s)", container.name, error)  # as its sound says
            return
        try:
            yield from packet.decode()  # pyright: ignore[reportReturnType]
        except FFmpegError:
            damage.packets += 1


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    return float((np.abs(one - other) > CHANGED_LEVELS).mean()) >= CHANGED_SHARE


def _pixels(frame: av.VideoFrame) -> np.ndarray:
    """uint8 [H, W, 3], RGB, no side longer than LONGEST, turned as the file says."""
    scale = min(1.0, LONGEST / max(frame.width, frame.height))
    width, height = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
    pixels = frame.reformat(width, height, "rgb24").to_ndarray()
    # The display matrix counts counter-clockwise, as numpy does.
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
