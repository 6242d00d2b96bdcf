"""Makes `samples/talk.mp4`: `samples/talk.wav` with drawn slides that change with its sentences.

Place: run once by hand, after :mod:`training.sample`; the result is committed. The same input and
libraries give the same bytes: letters come from the font that matplotlib brings along, the encoder
runs in one thread, and no dates are written.

    python -m training.clip
"""

import argparse
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import matplotlib
import numpy as np
from av.codec.context import Flags
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, FPS = 640, 360, 5
SCALE = 3  # drawn larger, then made smaller: smooth edges
PAUSE_MS = 600  # a silence this long parts two sentences
WINDOW_MS = 20
QUIET = 0.02  # of the loudest sample
INK, PAPER = "#ffffff", "#f8fafc"

Canvas = ImageDraw.ImageDraw


def _s(*values: float) -> list[float]:
    return [value * SCALE for value in values]


def _person(draw: Canvas, paint: str) -> None:
    draw.ellipse(_s(445, 95, 525, 175), fill=INK)
    draw.pieslice(_s(405, 190, 565, 370), 180, 360, fill=INK)
    draw.arc(_s(463, 120, 507, 158), 25, 155, fill=paint, width=4 * SCALE)


def _map(draw: Canvas, paint: str) -> None:
    draw.line(_s(390, 250, 440, 200, 500, 235, 560, 130), fill=INK, width=7 * SCALE, joint="curve")
    for x, y in ((390, 250), (560, 130)):
        draw.ellipse(_s(x - 14, y - 14, x + 14, y + 14), fill=INK)
        draw.ellipse(_s(x - 6, y - 6, x + 6, y + 6), fill=paint)


def _train(draw: Canvas, paint: str) -> None:
    draw.rounded_rectangle(_s(415, 90, 545, 250), 26 * SCALE, fill=INK)
    draw.rounded_rectangle(_s(433, 112, 527, 172), 10 * SCALE, fill=paint)
    for x in (447, 513):
        draw.ellipse(_s(x - 13, 197, x + 13, 223), fill=paint)
    draw.line(_s(440, 250, 410, 300), fill=INK, width=8 * SCALE)
    draw.line(_s(520, 250, 550, 300), fill=INK, width=8 * SCALE)
    draw.line(_s(424, 276, 536, 276), fill=INK, width=7 * SCALE)


def _cloud(draw: Canvas, paint: str) -> None:
    draw.ellipse(_s(470, 85, 550, 165), fill="#fde68a")
    for box in ((395, 165, 475, 245), (430, 125, 530, 225), (490, 160, 575, 245)):
        draw.ellipse(_s(*box), fill=INK)
    draw.rectangle(_s(435, 195, 535, 245), fill=INK)


def _wind(draw: Canvas, paint: str) -> None:
    for y, right, size in ((140, 520, 50), (190, 560, 60), (240, 490, 44)):
        draw.line(_s(385, y, right, y), fill=INK, width=11 * SCALE)
        draw.arc(
            _s(right - size / 2, y - size + 5, right + size / 2, y + 5), 270, 90, INK, 11 * SCALE
        )


def _calendar(draw: Canvas, paint: str) -> None:
    draw.rounded_rectangle(_s(405, 110, 555, 260), 16 * SCALE, fill=INK)
    draw.rectangle(_s(405, 140, 555, 150), fill=paint)
    for x in (440, 520):
        draw.rounded_rectangle(_s(x - 6, 92, x + 6, 128), 6 * SCALE, fill=INK)
    for row in range(3):
        for column in range(4):
            x, y = 427 + 30 * column, 166 + 30 * row
            chosen = (row, column) == (0, 0)
            draw.rectangle(_s(x, y, x + 16, y + 16), fill="#f59e0b" if chosen else paint)


def _report(draw: Canvas, paint: str) -> None:
    draw.polygon(_s(420, 90, 510, 90, 545, 125, 545, 270, 420, 270), fill=INK)
    draw.polygon(_s(510, 90, 545, 125, 510, 125), fill=paint)
    for y, right in ((150, 525), (178, 525), (206, 525), (234, 480)):
        draw.line(_s(440, y, right, y), fill=paint, width=7 * SCALE)


def _heart(draw: Canvas, paint: str) -> None:
    for x in (443, 517):
        draw.ellipse(_s(x - 44, 118, x + 44, 206), fill=INK)
    draw.polygon(_s(407, 187, 480, 275, 553, 187, 480, 150), fill=INK)


@dataclass(frozen=True)
class Slide:
    """One picture: what it says, its colour, and what draws its icon."""

    title: str
    topic: str
    paint: str
    icon: Callable[[Canvas, str], None]


SLIDES = (
    Slide("Buenas tardes", "Marta · Valencia", "#0f766e", _person),
    Slide("El viaje", "Valencia – Madrid", "#1d4ed8", _map),
    Slide("El tren", "mañana · 9:00", "#b91c1c", _train),
    Slide("Hoy", "Madrid, nublado", "#475569", _cloud),
    Slide("Mañana", "mucho viento", "#0369a1", _wind),
    Slide("La reunión", "lunes · 3:30", "#7e22ce", _calendar),
    Slide("Mi informe", "más tiempo", "#a16207", _report),
    Slide("¡Gracias!", "por escuchar", "#be185d", _heart),
)


def draw_slide(slide: Slide) -> Image.Image:
    """A slide as RGB, 640 x 360."""
    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), slide.paint)
    draw = ImageDraw.Draw(image)
    draw.text((48 * SCALE, 116 * SCALE), slide.title, font=_font(46, bold=True), fill=INK)
    draw.rectangle(_s(50, 184, 120, 189), fill=INK)
    draw.text((48 * SCALE, 206 * SCALE), slide.topic, font=_font(27), fill=PAPER)
    slide.icon(draw, slide.paint)
    return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def sentence_starts(samples: np.ndarray, rate_hz: int) -> list[float]:
    """Where sentences begin, in seconds: sound after a pause. ``samples`` int16 [S]."""
    window = rate_hz * WINDOW_MS // 1_000
    whole = len(samples) - len(samples) % window
    peaks = np.abs(samples[:whole].astype(np.int32)).reshape(-1, window).max(axis=1)
    loud = np.flatnonzero(peaks > QUIET * peaks.max())
    first = np.diff(loud, prepend=-PAUSE_MS) * WINDOW_MS > PAUSE_MS
    return [float(at * WINDOW_MS / 1_000) for at in loud[first]]


def write(sound: Path, out: Path) -> float:
    """Writes the clip; returns its seconds. Raises ValueError when slides and sentences differ."""
    with wave.open(str(sound)) as file:
        rate_hz = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    starts = sentence_starts(samples, rate_hz)
    if len(starts) != len(SLIDES):
        raise ValueError(
            f"{sound} has {len(starts)} sentences, but there are {len(SLIDES)} slides: "
            "make one for each sentence of training.sample.TALK"
        )
    with av.open(str(out), "w", options={"movflags": "+faststart", "fflags": "+bitexact"}) as clip:
        _mux(clip, samples, rate_hz, starts)
    return len(samples) / rate_hz


def _mux(clip, samples: np.ndarray, rate_hz: int, starts: list[float]) -> None:
    video = clip.add_stream("libx264", rate=FPS)
    video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    video.codec_context.thread_count = 1
    video.options = {"crf": "23", "preset": "slow", "tune": "stillimage", "g": str(4 * FPS)}
    audio = clip.add_stream("aac", rate=rate_hz, layout="mono")
    audio.bit_rate = 56_000
    for stream in (video, audio):
        stream.codec_context.flags |= Flags.bitexact
    pictures = [av.VideoFrame.from_image(draw_slide(slide)) for slide in SLIDES]
    block = rate_hz // FPS
    for number in range(-(-len(samples) // block)):
        # The change comes just before the voice, as a speaker would press the key.
        shown = sum(start <= (number + 1) / FPS for start in starts[1:])
        clip.mux(video.encode(_at(pictures[shown], number)))
        part = samples[number * block : (number + 1) * block]
        frame = av.AudioFrame.from_ndarray(part[None].copy(), format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, number * block
        clip.mux(audio.encode(frame))
    clip.mux(video.encode(None))
    clip.mux(audio.encode(None))


def _at(picture: av.VideoFrame, number: int) -> av.VideoFrame:
    picture.pts = number
    return picture


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf", name), size * SCALE)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the sample clip.")
    parser.add_argument("--sound", type=Path, default=Path("samples/talk.wav"))
    parser.add_argument("--out", type=Path, default=Path("samples/talk.mp4"))
    options = parser.parse_args()
    seconds = write(options.sound, options.out)
    print(f"{options.out}: {seconds:.1f} s, {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
