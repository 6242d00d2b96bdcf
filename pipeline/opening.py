"""Opens a media file, and nothing else that its bytes may name; or a stream.

Place: below :mod:`pipeline.media`. A playlist names other files and addresses, which FFmpeg would
read with the rights of this process: on a server, whoever uploads one could read its files. So
only containers that hold their sound themselves are opened, and only from the disk. A stream is
what the owner of this process names: it may be a playlist, as HLS is, but never leads to the disk.
"""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import av
from av.container import InputContainer
from av.error import FFmpegError

from dragoman.errors import InputError

Warn = Callable[[str], None]

# Demuxers that read what another file or address holds.
ELSEWHERE = {"concat", "dash", "hls", "applehttp", "image2", "imf", "rtp", "rtsp", "sap", "sdp"}
ELSEWHERE |= {"webm_dash_manifest"}
STREAMED = frozenset({"dash", "hls", "applehttp", "rtp", "rtsp", "sap", "sdp"})  # of these
NETWORK = "crypto,data,http,https,httpproxy,rtmp,rtmps,rtp,rtsp,rtsps,srt,srtp,tcp,tls,udp"
STDIN = "-"
CONNECT_S, STALLED_S = 15.0, 10.0  # without an answer, or without a byte
PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"[playlist]", b"<MPD", b"<?xml", b"v=0")
SHORT_OF = 0.5  # a WAV header that tells of less of the file than this is wrong


def open_media(path: Path, warn: Warn | None = None) -> InputContainer:
    """The file at ``path``, to be closed by the caller; ``warn`` hears of a header that is wrong.

    Raises InputError, which says what to do, for whatever is no media file.
    """
    _check(path)
    options = {"format_whitelist": _formats(), "protocol_whitelist": "file"}
    if (held := _wav_seconds_held(path)) is not None:
        options["ignore_length"] = "1"
        if warn is not None:
            warn(f"{path}: its header tells of less than the {held:.1f} s that are heard")
    try:
        # Without the prefix a colon in the name would be read as a protocol.
        return av.open(f"file:{path}", metadata_errors="replace", options=options)
    except PermissionError as error:
        raise InputError(f"{path} may not be read: change its permissions") from error
    except (FFmpegError, OSError) as error:
        if _is_playlist(path):
            raise InputError(
                f"{path} is a list of other files, which are not opened: name the media files "
                "themselves"
            ) from error
        raise InputError(
            f"{path} is not a media file that can be read ({reason(error)}): "
            "check that it plays; if it was being written or copied, wait until it is whole"
        ) from error


def open_stream(place: str, raw_hz: int | None = None) -> InputContainer:
    """The stream at ``place``, an address or "-" for standard input, to be closed by the caller.

    ``raw_hz``: it is int16, little-endian, mono, at so many samples a second. Raises InputError.
    """
    piped = place == STDIN
    options = {
        "protocol_whitelist": "pipe" if piped else NETWORK,
        "format_whitelist": _formats() if piped else _formats(STREAMED),
        "rtsp_transport": "tcp",  # what is lost of UDP is lost for ever
        "reconnect": "1",  # to what is stored and can be read from any place on
    }
    form = None
    if raw_hz is not None:
        form, options = "s16le", {**options, "sample_rate": str(raw_hz), "ch_layout": "mono"}
    try:
        return av.open(
            "pipe:0" if piped else place,
            format=form,
            metadata_errors="replace",
            options=options,
            timeout=None if piped else (CONNECT_S, STALLED_S),
        )
    except (FFmpegError, OSError) as error:
        if piped:
            raise InputError(
                f"standard input is no sound that can be read as it comes ({reason(error)}): send "
                "WAV, MP3, Ogg, Matroska or MPEG-TS, or int16 samples with --raw RATE"
            ) from error
        raise InputError(
            f"{shown(place)} gives no sound ({reason(error)}): check the address, and that "
            "something is sent there"
        ) from error


def shown(place: str) -> str:
    """``place`` for screens and files: an address without password, and without its query, which
    often holds a key.
    """
    if place == STDIN:
        return "standard input"
    parts = urlsplit(place)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def reason(error: Exception) -> str:
    """What an error of FFmpeg or the system says, without its number."""
    return getattr(error, "strerror", None) or str(error)


def _check(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(f"the name of {ascii(str(path))} is not UTF-8: rename the file") from None
    if not path.exists():
        raise InputError(f"{path} does not exist: check the name")
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a media file in it")
    if not path.is_file():
        raise InputError(f"{path} is no file but a pipe or a device: record it into a file first")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): copy or record it again")


@cache
def _formats(more: frozenset[str] = frozenset()) -> str:
    known = {name for names in av.formats_available for name in names.split(",")}
    return ",".join(sorted(known - (ELSEWHERE - more)))


def _is_playlist(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(16).lstrip(b"\xef\xbb\xbf \r\n").startswith(PLAYLISTS)
    except OSError:
        return False


def _wav_seconds_held(path: Path) -> float | None:
    """The seconds of sound in a WAV file whose header tells of much less; else None."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
            if head[:4] != b"RIFF" or head[8:] != b"WAVE":
                return None
            return _held(file, path.stat().st_size)
    except OSError:
        return None


def _held(file: BinaryIO, size: int) -> float | None:
    """The same of an open RIFF file of ``size`` bytes, behind its first twelve."""
    a_second = 0
    while len(head := file.read(8)) == 8:
        told, held = int.from_bytes(head[4:], "little"), size - file.tell()
        if head[:4] == b"data":
            file.seek(told + told % 2, os.SEEK_CUR)
            follows = file.read(8)
            named = len(follows) == 8 and all(32 <= byte < 127 for byte in follows[:4])
            chunk = named and int.from_bytes(follows[4:], "little") < held - told
            wrong = 0 < told < SHORT_OF * held and a_second and not chunk
            return held / a_second if wrong else None
        body = file.read(told + told % 2) if told < held else b""
        if head[:4] == b"fmt ":
            a_second = int.from_bytes(body[8:12], "little")
    return None
