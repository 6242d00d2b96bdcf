"""Small videos with drawn slides, made with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av import VideoStream

SIZE = 160, 90  # width, height


def slide(number: int, width: int = SIZE[0], height: int = SIZE[1]) -> np.ndarray:
    """A light page with a dark title bar and ``number`` lines of text: uint8 [H, W, 3]."""
    page = np.full((height, width, 3), 235, np.uint8)
    page[: height // 8] = (40, 40, 40 + 40 * (number % 4))
    for line in range(number):
        top = height // 4 + line * height // 8
        page[top : top + height // 16, width // 10 : width * 8 // 10] = 30
    return page


def write(
    path: Path,
    slides: Sequence[tuple[float, np.ndarray]],
    duration_s: float,
    fps: int = 10,
    codec: str = "libx264",
    sound: np.ndarray | None = None,
    start_s: float = 0.0,
) -> Path:
    """A video that shows each slide from its time on; ``sound`` float32 [S] at 16 kHz.

    ``start_s`` is the time stamp of its first frame.
    """
    height, width = slides[0][1].shape[:2]
    with av.open(path, "w") as container:
        video = container.add_stream(codec, rate=fps)
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.time_base = Fraction(1, 1000)
        audio = None if sound is None else container.add_stream("aac", rate=16_000)
        for index in range(round(duration_s * fps)):
            time_s = index / fps
            page = [page for at, page in slides if at <= time_s + 1e-9][-1]
            frame = av.VideoFrame.from_ndarray(page, format="rgb24")
            frame.pts = round((start_s + time_s) * 1000)
            frame.time_base = Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
            container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def garble(path: Path, from_s: float) -> None:
    """Makes noise of the packets of the video from ``from_s`` on; the sound stays whole."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [
            (packet.pos, packet.size)
            for packet in container.demux(stream)
            if packet.pos is not None
            and packet.pts is not None
            and packet.pts * packet.time_base >= from_s
        ]
    data, random = bytearray(path.read_bytes()), np.random.default_rng(0)
    for pos, size in packets:
        data[pos : pos + size] = random.integers(0, 256, size, np.uint8).tobytes()
    path.write_bytes(data)
