"""Reads the sound of any media file as a stream: 16 kHz, mono, float32.

Feeds :mod:`stages.chunk` in batch and in captions of a file. Everything is decoded through PyAV.
The stream's clock is the video's: where the sound track starts late, or has a hole, silence is put
in, so a sample index tells the time in the picture. Sound itself is never dropped.

What is unusual: a damaged file is no error as long as some sound can be decoded; what is wrong with
it is said through ``warn``.
"""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition

from dragoman.errors import InputError
from dragoman.models.languages import LANGUAGES
from dragoman.pipeline.channels import Downmix
from dragoman.pipeline.opening import Warn, open_media, reason
from dragoman.pipeline.resampling import Resampler
from dragoman.stages.messages import SAMPLE_RATE_HZ

log = logging.getLogger(__name__)

GAP_S = Fraction(1, 20)  # shorter holes are jitter of the container's time stamps
LEAP_S = 3_600  # longer ones are broken time stamps
INTEGERS = 100.0  # few float samples are as large, unless they stand for integers of 16 bits
QUIET, NOTHING = 1e-2, 1e-4  # -40 and -80 dB: peaks of speech that is too quiet, and of no sound
MANY = 0.1  # of a frame's samples; a damaged file has single ones
BLOCK_SAMPLES = SAMPLE_RATE_HZ  # silence is put in by the second
SHORT_BY_S = 1.0  # a file that ends this much before its header says is called truncated
PIPE_BYTES = 0x7FF0_0000


@dataclass(frozen=True)
class AudioInfo:
    """A sound track: ``language`` as the file names it (often ISO 639-2), None when it does not."""

    codec: str
    rate_hz: int
    channels: int
    language: str | None


@dataclass(frozen=True)
class VideoInfo:
    """A video track: size in pixels, ``fps`` None where it varies or is not known."""

    codec: str
    width: int
    height: int
    fps: float | None


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds. ``duration_s`` is None when its header does not say.

    ``audio`` and ``video`` describe the tracks that a player would choose; ``audio_tracks`` all
    sound tracks, in the order that ``read_audio`` counts them.
    """

    duration_s: float | None
    audio: AudioInfo | None
    video: VideoInfo | None
    audio_tracks: tuple[AudioInfo, ...]

    @property
    def has_audio(self) -> bool:
        return self.audio is not None

    @property
    def has_video(self) -> bool:
        return self.video is not None


def probe(path: str | Path) -> MediaInfo:
    """What the file at ``path`` holds; raises InputError when it is missing or not media."""
    with open_media(Path(path)) as container:
        chosen = container.streams.best("audio")
        return MediaInfo(
            duration_s=_duration(container),
            audio=_audio_info(chosen) if isinstance(chosen, av.AudioStream) else None,
            video=_video_info(container),
            audio_tracks=tuple(_audio_info(stream) for stream in container.streams.audio),
        )


def read_audio(
    path: str | Path,
    *,
    track: int | None = None,
    language: str | None = None,
    channel: int | None = None,
    warn: Warn = log.warning,
) -> Iterator[np.ndarray]:
    """The sound of the file at ``path``: pieces float32 [S] in [-1, 1] at 16 kHz, mono.

    Channels are mixed by :mod:`pipeline.channels`, or ``channel``, counted from 1, is heard alone.
    ``track`` counts the sound tracks from 1; None takes the one that a
    player would, unless only another is marked as being in ``language`` (ISO 639-1). ``warn`` is
    called with one sentence about which of several tracks was taken and, at the end, with one for
    each kind of damage.

    Raises InputError at once when the file is missing, not media or without sound, and while
    reading when no sound could be decoded at all.
    """
    path = Path(path)
    container = open_media(path, warn)
    try:
        stream = choose(container, path, track, language, warn)
        check_channel(stream, path, channel)
    except InputError:
        container.close()
        raise
    return _read(container, stream, path, channel, warn)


def check_channel(stream: av.AudioStream, path: Path | str, channel: int | None) -> None:
    """Raises InputError where ``stream`` has no such channel."""
    count = stream.codec_context.channels if stream.codec_context else 0
    if channel is not None and not 1 <= channel <= count:
        raise InputError(f"{path} has no channel {channel}: its sound has {count}")


def choose(
    container: InputContainer, path: Path | str, track: int | None, language: str | None, warn: Warn
) -> av.AudioStream:
    """The sound track that is heard, as in `read_audio`; ``path`` is what sentences call it."""
    streams = container.streams.audio
    if not streams:
        raise InputError(f"{path} has no sound track: choose a file with sound")
    if track is not None and not 1 <= track <= len(streams):
        count = len(streams)
        has = "it has one" if count == 1 else f"choose one of 1 to {count}"
        raise InputError(f"{path} has no sound track {track}: {has}")
    stream = streams[track - 1] if track is not None else _preferred(container, language)
    if stream.codec_context is None:
        raise InputError(
            f"{path}: the codec of its sound track is not known: convert it to another format"
        )
    if track is None and len(streams) > 1:
        tags = ", ".join(_tag(one) or "not marked" for one in streams)
        lacking = language is not None and not _speaks(stream, language)
        warn(
            f"{path} has {len(streams)} sound tracks ({tags}): number "
            f"{streams.index(stream) + 1} is heard"
            + (f", as none is marked as {language}" if lacking else "")
        )
    return stream


def _preferred(container: InputContainer, language: str | None) -> av.AudioStream:
    """The track that a player would choose, or the first in ``language`` if that is not."""
    streams, best = container.streams.audio, container.streams.best("audio")
    default = best if isinstance(best, av.AudioStream) else streams[0]
    known = [default, *(stream for stream in streams if stream.codec_context)]
    spoken = [stream for stream in known if language is not None and _speaks(stream, language)]
    return next(iter(spoken), default)


def _speaks(stream: av.AudioStream, language: str) -> bool:
    """Whether ``stream`` is marked as being in ``language``, as `es`, `spa` or `es-MX`."""
    tag = (_tag(stream) or "").lower().partition("-")[0]
    known = LANGUAGES.get(language)
    return tag in {language, *(known.tags if known else ())}


def _tag(stream: av.AudioStream) -> str | None:
    """The language of ``stream`` as the file names it; None when it does not."""
    return None if stream.language in (None, "und") else stream.language


def left_out(packets: int, kind: str) -> str:
    """What is said about ``packets``, one or more, of "sound" or "video" that are damaged."""
    said = "1 damaged packet" if packets == 1 else f"{packets} damaged packets"
    return f"{said} of {kind} {'was' if packets == 1 else 'were'} left out"


def _duration(container: InputContainer) -> float | None:
    return None if container.duration is None else container.duration / av.time_base


def _audio_info(stream: av.AudioStream) -> AudioInfo:
    return AudioInfo(
        codec=stream.codec_context.name if stream.codec_context else "unknown",
        rate_hz=stream.rate if stream.codec_context else 0,
        channels=stream.channels if stream.codec_context else 0,
        language=_tag(stream),
    )


def _video_info(container: InputContainer) -> VideoInfo | None:
    """The first moving picture; the cover of an album is none."""
    for stream in container.streams.video:
        if stream.codec_context and not stream.disposition & Disposition.attached_pic:
            fps = float(stream.average_rate) if stream.average_rate else None
            return VideoInfo(stream.codec_context.name, stream.width, stream.height, fps)
    return None


@dataclass
class _Damage:
    """What went wrong in a file, counted while reading."""

    undecodable: int = 0
    broken_off: str | None = None
    heard_until_s: float = 0.0  # the latest time stamp of any track
    leaps_s: list[tuple[float, float]] = field(default_factory=list)  # at, by
    integers: bool = False
    peak: float = 0.0  # of what was given out

    def sentences(self, path: Path, duration_s: float | None) -> Iterator[str]:
        if self.integers:
            yield f"{path} has float samples in the range of 16-bit integers: they were scaled"
        if NOTHING < self.peak < QUIET:
            peak_db = 20 * math.log10(self.peak)
            yield (
                f"{path} is very quiet (its peak is at {peak_db:.0f} dB), so words may be missed "
                "or wrong: raise its level"
            )
        for at, by in self.leaps_s:
            yield (
                f"{path}: its time stamps leap by {by / 3_600:.1f} h at {at:.1f} s: left out, so "
                "times after it are earlier than a player shows them"
            )
        if self.undecodable:
            yield f"{path}: {left_out(self.undecodable, 'sound')}"
        if self.broken_off:
            yield (
                f"{path} could not be read past {self.heard_until_s:.1f} s "
                f"({self.broken_off}): what comes after is missing"
            )
        elif duration_s is not None and self.heard_until_s < duration_s - SHORT_BY_S:
            yield (
                f"{path} seems truncated: it ends after {self.heard_until_s:.1f} s, but its header "
                f"says {duration_s:.1f} s; check that it was copied whole"
            )


@dataclass
class Mixer:
    """Turns decoded frames into the output stream, and keeps its clock.

    ``origin_s`` is the container's time of sample 0, that of the first frame where it is None;
    ``limit_s`` the latest believable time, ``leap_s`` the longest believable hole.
    """

    origin_s: Fraction | None = None
    limit_s: float = float("inf")
    channel: int | None = None
    leap_s: float = LEAP_S
    damage: _Damage = field(default_factory=_Damage)
    downmix: Downmix | None = None
    resampler: Resampler | None = None
    rate_hz: int = 0
    taken: int = 0  # samples given to the resampler
    given: int = 0  # samples given out
    base: int = 0  # samples given out before the resampler was made

    def push(self, frame: av.AudioFrame) -> Iterator[np.ndarray]:
        """The samples that can be given out once ``frame`` is known."""
        missing = self._missing(frame)
        if missing or frame.rate != self.rate_hz:
            yield from self.flush()
            self.resampler = Resampler(frame.rate)
            if frame.rate != self.rate_hz:
                self.downmix = Downmix(frame.rate, self.channel)
            # Silence up to the frame's own time, whatever the resampler gave out at last.
            yield from self._silence(missing)
            self.rate_hz, self.taken, self.base = frame.rate, 0, self.given
        self.taken += frame.samples
        assert self.downmix is not None and self.resampler is not None
        mono = self.downmix.step(self._scaled(_samples(frame)))
        yield from self._out(self.resampler.step(mono))

    def flush(self) -> Iterator[np.ndarray]:
        """What the downmix and the resampler still hold."""
        if self.resampler is not None and self.downmix is not None:
            yield from self._out(self.resampler.step(self.downmix.flush()))
            yield from self._out(self.resampler.flush())
            self.resampler = None

    def _missing(self, frame: av.AudioFrame) -> int:
        """Samples between the end of what was taken and the frame's time, 0 for a small gap."""
        if frame.pts is None or frame.time_base is None:
            return 0
        if self.origin_s is None:
            self.origin_s = frame.pts * frame.time_base
        time = frame.pts * frame.time_base - self.origin_s
        end = Fraction(self.base, SAMPLE_RATE_HZ)
        if self.rate_hz:
            end += Fraction(self.taken, self.rate_hz)
        if time - end > self.leap_s:
            self.damage.leaps_s.append((float(end), float(time - end)))
            self.origin_s += time - end
            return 0
        # A leap past the end of the file is a broken time stamp, not a hole.
        if time - end <= GAP_S or time > self.limit_s:
            return 0
        return round((time - end) * SAMPLE_RATE_HZ)

    def _scaled(self, samples: np.ndarray) -> np.ndarray:
        """Floats that are integers of 16 bits in disguise become samples."""
        if not self.damage.integers and np.mean(np.abs(samples) > INTEGERS) > MANY:
            self.damage.integers = True
        return samples / 32_768 if self.damage.integers else samples

    def _silence(self, samples: int) -> Iterator[np.ndarray]:
        self.given += samples
        for at in range(0, samples, BLOCK_SAMPLES):
            yield np.zeros(min(BLOCK_SAMPLES, samples - at), np.float32)

    def _out(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        if len(samples):
            self.damage.peak = max(self.damage.peak, float(np.abs(samples).max()))
            self.given += len(samples)
            yield samples


def _samples(frame: av.AudioFrame) -> np.ndarray:
    """A frame's channels: float32 [C, S], scaled to [-1, 1]."""
    samples = frame.to_ndarray()
    if frame.format.is_packed:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = samples / 2.0 ** (8 * samples.dtype.itemsize - 1)
    # A damaged file of floats may hold values that are no number.
    return np.nan_to_num(samples, posinf=1.0, neginf=-1.0).astype(np.float32)


def _read(
    container: InputContainer,
    stream: av.AudioStream,
    path: Path,
    channel: int | None,
    warn: Warn,
) -> Iterator[np.ndarray]:
    duration_s = _duration(container)
    origin_s = Fraction(container.start_time or 0, av.time_base)
    limit_s = float("inf") if duration_s is None else duration_s + SHORT_BY_S
    mixer = Mixer(origin_s, limit_s, channel)
    with container:
        try:
            yield from decoded(container, stream, mixer)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    if not mixer.given:
        raise InputError(
            f"{path}: nothing of its sound track could be decoded: the file is damaged or cut off; "
            "copy or record it again"
        )
    for sentence in mixer.damage.sentences(path, _wav_duration(path, duration_s)):
        warn(sentence)


def decoded(
    container: InputContainer, stream: av.AudioStream, mixer: Mixer
) -> Iterator[np.ndarray]:
    """The sound of ``stream`` of an open container; ``mixer.damage`` says what was wrong with it,
    also where it broke off, which raises nothing.
    """
    for packet in _packets(container, mixer):
        if packet.stream.index != stream.index:
            continue
        try:
            frames = packet.decode()
        except FFmpegError:
            mixer.damage.undecodable += 1
            continue
        for frame in frames:
            assert isinstance(frame, av.AudioFrame)
            yield from mixer.push(frame)
    yield from mixer.flush()


def _wav_duration(path: Path, duration_s: float | None) -> float | None:
    """The duration that a WAV header claims; libavformat reckons it from the size on disk.

    A recorder that writes to a pipe claims about 2 or 4 GB, which says nothing.
    """
    with path.open("rb") as file:
        head = file.read(12)
    claimed, size = int.from_bytes(head[4:8], "little") + 8, path.stat().st_size
    wav = head[:4] == b"RIFF" and head[8:] == b"WAVE"
    if duration_s is None or not wav or claimed <= size or claimed > PIPE_BYTES:
        return duration_s
    return duration_s * claimed / size


def _packets(container: InputContainer, mixer: Mixer) -> Iterator[av.Packet]:
    """The packets of all tracks (a track may end early, the file ends with its last one)."""
    damage = mixer.damage
    try:
        for packet in container.demux():
            if packet.pts is not None and packet.time_base is not None:
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                end -= mixer.origin_s or 0
                damage.heard_until_s = max(damage.heard_until_s, float(end))
            yield packet
    except (FFmpegError, OSError) as error:
        damage.broken_off = reason(error)
