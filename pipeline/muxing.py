"""Puts subtitles into a copy of their film, as tracks that a player shows on demand.

After `pipeline.subtitles`, for `dragoman translate --mux`. Picture and sound are copied as they
are, so it takes no longer than copying the file. A container is kept where it can hold subtitles;
of others the copy is Matroska.

What is unusual: PyAV encodes no subtitles of one's own, but a text track's packets are little more
than the text, so they are made here. Its encoder only writes the track's header.
"""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import pysubs2
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.stream import Disposition, Stream
from av.subtitles.codeccontext import SubtitleCodecContext

from dragoman.errors import InputError
from dragoman.models import languages
from dragoman.pipeline.formats import FORMATS, Cue
from dragoman.pipeline.opening import open_media, reason

# By suffix: what FFmpeg calls the container, and the codec of subtitles in it.
CONTAINERS = {
    ".mp4": ("mp4", "mov_text"),
    ".m4v": ("mp4", "mov_text"),
    ".mov": ("mov", "mov_text"),
    ".webm": ("webm", "webvtt"),
    ".mkv": ("matroska", "subrip"),
}
TICK = Fraction(1, 1_000)
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
COPIED = ("video", "audio", "subtitle")


@dataclass(frozen=True)
class Track:
    """Subtitles for a film: ``code`` is their language, ``name`` what a player's menu says."""

    cues: Sequence[Cue]
    code: str
    name: str
    default: bool = False


def suffix_of(film: Path) -> str:
    """The suffix of a copy of ``film`` with subtitles."""
    return film.suffix.lower() if film.suffix.lower() in CONTAINERS else ".mkv"


def mux(film: Path, tracks: Sequence[Track], target: Path) -> None:
    """Writes a copy of ``film`` with ``tracks`` to ``target``, whose suffix is `suffix_of` it.

    Cues count from the beginning of the film, as for a player. Raises InputError for what cannot be
    copied, OSError where nothing can be written.
    """
    container, codec = CONTAINERS[target.suffix]
    with (
        told(f"{film} could not be copied with its subtitles", "--mux"),
        open_media(film) as source,
        av.open(f"file:{target}", "w", container) as out,
    ):
        _copy(source, out, tracks, codec)


@contextmanager
def told(what: str, option: str) -> Iterator[None]:
    """Errors of FFmpeg as OSError where the copy cannot be written, else as InputError: ``what``
    could not be done, and does not happen without ``option``.
    """
    try:
        yield
    except FFmpegError as error:
        if error.errno in UNWRITABLE:
            raise OSError(error.errno, reason(error)) from error
        raise InputError(f"{what} ({reason(error)}): leave out {option}") from error


def _copy(
    source: InputContainer, out: OutputContainer, tracks: Sequence[Track], codec: str
) -> None:
    out.metadata.update(source.metadata)
    copies = {stream.index: copied(stream, out) for stream in source.streams if fits(stream, out)}
    added = [_added(track, codec, out) for track in tracks]
    if any(track.default for track in tracks):
        for copy in copies.values():
            if copy.type == "subtitle":
                copy.disposition = Disposition(copy.disposition & ~Disposition.default)
    begin = Fraction(source.start_time or 0, av.time_base)
    waiting = _packets(tracks, added, codec, begin)
    following = next(waiting, None)
    for packet in source.demux():
        if packet.dts is None or not packet.time_base or packet.stream.index not in copies:
            continue
        while following and (following.pts or 0) * TICK <= packet.dts * packet.time_base:
            out.mux(following)
            following = next(waiting, None)
        packet.stream = copies[packet.stream.index]
        out.mux(packet)
    while following:
        out.mux(following)
        following = next(waiting, None)


def fits(stream: Stream, out: OutputContainer) -> bool:
    """Whether ``out`` can hold a copy of ``stream``."""
    known = stream.type in COPIED and stream.codec_context is not None
    return known and stream.codec_context.codec.name in out.supported_codecs | {"dvd_subtitle"}


def copied(stream: Stream, out: OutputContainer) -> Stream:
    """A track of ``out`` for the packets of ``stream``, with its language and its place."""
    copy = out.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition
    return copy


def _added(track: Track, codec: str, out: OutputContainer) -> Stream:
    stream = out.add_stream(codec)
    context = stream.codec_context
    assert isinstance(context, SubtitleCodecContext)
    stream.time_base = context.time_base = TICK
    context.subtitle_header = pysubs2.SSAFile().to_string("ass").encode()
    stream.metadata["language"] = languages.find(track.code).tags[0]
    stream.metadata["title"] = track.name
    stream.disposition = Disposition.default if track.default else Disposition(0)
    return stream


def _packets(
    tracks: Sequence[Track], streams: Sequence[Stream], codec: str, begin: Fraction
) -> Iterator[av.Packet]:
    """The packets of all tracks, in order of time."""
    offset = round(begin / TICK)
    cues = [
        (cue, stream) for track, stream in zip(tracks, streams, strict=True) for cue in track.cues
    ]
    for cue, stream in sorted(cues, key=lambda pair: pair[0].start_ms):
        packet = av.Packet(_payload(cue, codec))
        packet.stream, packet.time_base = stream, TICK
        packet.pts = packet.dts = cue.start_ms + offset
        packet.duration = cue.end_ms - cue.start_ms
        packet.is_keyframe = True
        yield packet


def _payload(cue: Cue, codec: str) -> bytes:
    """A cue's packet: the text as it stands in a file; in MP4 it has its length before it."""
    if codec == "mov_text":
        data = "\n".join(cue.lines).encode()
        return len(data).to_bytes(2, "big") + data
    form = FORMATS["vtt" if codec == "webvtt" else "srt"]
    return form([cue]).partition("-->")[2].partition("\n")[2].strip("\n").encode()
