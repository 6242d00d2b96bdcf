"""Draws subtitles into the picture of a film, for players and platforms that show no tracks.

After `pipeline.subtitles`, for `dragoman translate --burn-in`. The sound is copied, the picture is
encoded anew: H.264, or VP9 in WebM. Letters are drawn by Pillow, since the FFmpeg that comes with
PyAV has no filter for subtitles.

What is unusual: a font is taken only if it has every letter of the text. A film full of empty boxes
would be no use, so without such a font nothing is made, and the error says which letters it lacks.
"""

import sys
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image, ImageDraw, ImageFont, features

from dragoman.errors import DependencyError, InputError
from dragoman.pipeline.formats import Cue
from dragoman.pipeline.muxing import CONTAINERS, copied, fits, told
from dragoman.pipeline.opening import open_media

FONT_FOLDERS = {
    "darwin": ("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts"),
    "win32": ("C:/Windows/Fonts",),
}
UNIX_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts")
PREFERRED = ("NotoSans-Regular", "DejaVuSans", "LiberationSans-Regular", "Arial", "NotoSans")
LETTERS = 0.055  # of the picture's height
MARGIN = 0.05  # of the picture's height, below the text
WIDEST = 0.96  # of the picture's width
UNDEFINED = "\U0010fffe"  # no font has it, so it looks like what a font lacks
QUALITY = {"libx264": {"crf": "18", "preset": "fast"}, "libvpx-vp9": {"crf": "30", "b": "0"}}


def burn(film: Path, cues: Sequence[Cue], target: Path) -> None:
    """Writes ``film`` with ``cues`` in its picture to ``target``, of a suffix of `muxing`.

    Raises InputError for a film that cannot be encoded or has no picture, DependencyError where no
    font has the letters or nothing joins them, OSError where nothing can be written.
    """
    text = "".join(line for cue in cues for line in cue.lines)
    _check_layout(text)
    font = find_font(text)
    with told(f"{film} could not be encoded with its subtitles", "--burn-in"):
        size, container = _upright(film), CONTAINERS[target.suffix][0]
        with open_media(film) as source, av.open(f"file:{target}", "w", container) as out:
            _encode(source, out, size, sorted(cues, key=lambda cue: cue.start_ms), font)


def _upright(film: Path) -> tuple[int, int]:
    """Width and height as a player shows the picture, made even, as encoders need them."""
    with open_media(film) as source:
        packets = source.demux(_picture(source, film))
        frame = next((frame for packet in packets for frame in _decoded(packet)), None)
        if frame is None:
            raise InputError(f"{film}: nothing of its picture can be decoded: leave out --burn-in")
        width, height = frame.width // 2 * 2, frame.height // 2 * 2
        return (height, width) if _quarters(frame) % 2 else (width, height)


def _decoded(packet: av.Packet) -> list[VideoFrame]:
    """The pictures of ``packet``; none of a damaged one, as little as a player shows."""
    try:
        return [frame for frame in packet.decode() if isinstance(frame, VideoFrame)]
    except FFmpegError:
        return []


def _quarters(frame: VideoFrame) -> int:
    """How often the pixels must be turned by 90 degrees to stand upright."""
    return round(frame.rotation / 90)


def _picture(source: InputContainer, film: Path) -> VideoStream:
    """The moving picture; the cover of an album is none."""
    for stream in source.streams.video:
        if stream.codec_context and not stream.disposition & Disposition.attached_pic:
            return stream
    raise InputError(f"{film} has no picture to draw in: leave out --burn-in")


def _check_layout(text: str) -> None:
    """Raises DependencyError for letters that change beside others, or run from right to left,
    where Pillow would put them down one by one from left to right.
    """
    joined = any(
        unicodedata.bidirectional(letter) in ("R", "AL") or unicodedata.category(letter)[0] == "M"
        for letter in text
    )
    if joined and not (features.check("raqm") and features.check("fribidi")):
        raise DependencyError(
            "the letters of this text cannot be joined and put in order without FriBiDi: install "
            "it, such as the package libfribidi0, or leave out --burn-in"
        )


def find_font(text: str) -> Path:
    """A font file of this machine that has all letters of ``text``; raises DependencyError."""
    letters = {letter for letter in text if letter.isprintable() and not letter.isspace()}
    fewest = letters
    for path in _fonts():
        lacking = _lacking(path, letters)
        if not lacking:
            return path
        fewest = min(fewest, lacking, key=len)
    raise DependencyError(
        f"no font on this machine has {' '.join(sorted(fewest)[:8])!r}: install one, such as the "
        "packages fonts-noto-core and fonts-noto-cjk, or leave out --burn-in"
    )


def _fonts() -> Iterator[Path]:
    """The font files of this machine, plain ones first."""
    folders = [Path(f).expanduser() for f in FONT_FOLDERS.get(sys.platform, UNIX_FOLDERS)]
    files = (file for folder in folders for file in folder.rglob("*"))
    found = [file for file in files if file.suffix.lower() in (".ttf", ".ttc", ".otf")]

    def rank(path: Path) -> tuple[int, str]:
        places = [at for at, name in enumerate(PREFERRED) if path.stem.startswith(name)]
        exact = path.stem in PREFERRED
        return (min(places, default=len(PREFERRED)) * 2 + (not exact), path.name)

    return iter(sorted(found, key=rank))


def _lacking(path: Path, letters: set[str]) -> set[str]:
    """The ``letters`` that a font shows as it shows what it has not."""
    try:
        font = ImageFont.truetype(str(path), 20)
    except OSError:
        return letters
    box = _shape(UNDEFINED, font)
    return {letter for letter in letters if _shape(letter, font) == box}


def _shape(letter: str, font: ImageFont.FreeTypeFont) -> bytes:
    image = Image.new("L", (40, 40))
    ImageDraw.Draw(image).text((8, 8), letter, 255, font)
    return image.tobytes()


def _encode(
    source: InputContainer,
    out: OutputContainer,
    size: tuple[int, int],
    cues: Sequence[Cue],
    font: Path,
) -> None:
    picture = _picture(source, Path(source.name))
    encoder = _encoder(picture, out, size)
    sounds = {s.index: copied(s, out) for s in source.streams.audio if fits(s, out)}
    painter = _Painter(cues, font, Fraction(source.start_time or 0, av.time_base))
    last: int | None = None
    for packet in source.demux([picture, *source.streams.audio]):
        if packet.stream.index in sounds:
            if packet.dts is not None:
                packet.stream = sounds[packet.stream.index]
                out.mux(packet)
            continue
        for frame in _decoded(packet):
            if last is not None and frame.pts is not None and frame.pts <= last:
                continue  # behind damage some come too late, which no encoder takes
            last = frame.pts
            out.mux(encoder.encode(painter.painted(frame, size)))
    out.mux(encoder.encode())


def _encoder(picture: VideoStream, out: OutputContainer, size: tuple[int, int]) -> VideoStream:
    codec = "libvpx-vp9" if out.format.name == "webm" else "libx264"
    rate, base = picture.average_rate or 25, picture.time_base
    encoder = out.add_stream(codec, rate=rate, options=QUALITY[codec], time_base=base)
    assert isinstance(encoder, VideoStream)
    encoder.width, encoder.height = size
    encoder.pix_fmt = "yuv420p"
    return encoder


class _Painter:
    """Draws the cue of its time into each frame; the drawing is kept while the cue lasts."""

    def __init__(self, cues: Sequence[Cue], font: Path, begin_s: Fraction) -> None:
        self._cues, self._font, self._begin_s = cues, font, begin_s
        self._starts = [cue.start_ms for cue in cues]
        self._drawn: tuple[Cue | None, Image.Image | None] = (None, None)

    def painted(self, frame: VideoFrame, size: tuple[int, int]) -> VideoFrame:
        """``frame`` upright, of this ``size``, with what is to be read in it."""
        cue = self._current(frame)
        if cue is None and not _quarters(frame):
            out = frame.reformat(*size, "yuv420p")
        else:
            pixels = np.rot90(frame.to_ndarray(format="rgb24"), _quarters(frame))
            image = Image.fromarray(np.ascontiguousarray(pixels)).resize(size)
            if cue is not None:
                drawn = self._drawing(cue, size)
                image.paste(drawn, (0, 0), drawn)
            out = VideoFrame.from_image(image).reformat(format="yuv420p")
        out.pts, out.time_base = frame.pts, frame.time_base
        return out

    def _current(self, frame: VideoFrame) -> Cue | None:
        if frame.pts is None or frame.time_base is None:
            return None
        ms = (frame.pts * frame.time_base - self._begin_s) * 1_000
        at = bisect_right(self._starts, ms) - 1
        return self._cues[at] if at >= 0 and ms < self._cues[at].end_ms else None

    def _drawing(self, cue: Cue, size: tuple[int, int]) -> Image.Image:
        last, drawn = self._drawn
        if last is not cue or drawn is None:
            drawn = draw(cue.lines, size, self._font)
            self._drawn = (cue, drawn)
        return drawn


def draw(lines: Sequence[str], size: tuple[int, int], font: Path) -> Image.Image:
    """White letters with a black edge, centred at the bottom of a clear picture of ``size``."""
    image = Image.new("RGBA", size)
    pen, text = ImageDraw.Draw(image), "\n".join(lines)
    width, height = size
    points = max(8.0, height * LETTERS)
    edge = max(1, round(points / 14))
    loaded = ImageFont.truetype(str(font), points)
    left, _, right, _ = pen.multiline_textbbox((0, 0), text, loaded, stroke_width=edge)
    if right - left > width * WIDEST:
        loaded = ImageFont.truetype(str(font), points * width * WIDEST / (right - left))
    foot = (width / 2, height * (1 - MARGIN))
    pen.multiline_text(
        foot, text, "white", loaded, "md", align="center", stroke_width=edge, stroke_fill="black"
    )
    return image
