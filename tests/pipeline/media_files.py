"""Small media files in many containers, made from one recording of speech."""

import shutil
import wave
from pathlib import Path

import av
import numpy as np
from av import AudioStream, VideoStream

ROOT = Path(__file__).resolve().parents[2]
RATE = 16_000
SPOKEN = ROOT / "samples" / "talk.wav"
SPOKEN_S = 8.25  # the first two sentences
SENTENCES = 2

GOOD = {
    "film.mp4": ("aac", "mpeg4", 44_100, "stereo"),
    "film.mkv": ("libopus", "mpeg4", 48_000, "mono"),
    "film.webm": ("libopus", "libvpx", 48_000, "stereo"),
    "song.mp3": ("libmp3lame", None, 44_100, "stereo"),
    "note.opus": ("libopus", None, 48_000, "mono"),
    "master.flac": ("flac", None, 16_000, "mono"),
    "phone call.wav": ("pcm_s16le", None, 8_000, "mono"),
    "estéreo ñ 日本.wav": ("pcm_s16le", None, 48_000, "stereo"),
    "podcast.m4a": ("aac", None, 32_000, "mono"),
}
BAD = {
    "silent film.mp4": "no sound track",
    "cut off.mp4": "not a media file that can be read",
    "empty.mp4": "empty (0 bytes)",
    "text.mp4": "not a media file that can be read",
}


def speech(seconds: float = SPOKEN_S) -> np.ndarray:
    with wave.open(str(SPOKEN)) as file:
        assert file.getframerate() == RATE and file.getnchannels() == 1
        samples = np.frombuffer(file.readframes(round(seconds * RATE)), "<i2")
    return samples.astype(np.float32) / 32768


def make_all(folder: Path) -> None:
    """All of GOOD and BAD, and `broken off.mp3`, of which the first half is whole."""
    for name, form in GOOD.items():
        write(folder / name, speech(), *form)
    write(folder / "silent film.mp4", None, None, "mpeg4")
    cut(folder / "film.mp4", folder / "cut off.mp4", 0.6)
    cut(folder / "song.mp3", folder / "broken off.mp3", 0.56)
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("This is no film.\n" * 40)


def cut(whole: Path, path: Path, share: float) -> None:
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def write(
    path: Path,
    samples: np.ndarray | None,
    codec: str | None,
    picture: str | None = None,
    rate: int = RATE,
    layout: str = "mono",
) -> Path:
    """``samples`` float32 [S] at 16 kHz; ``picture`` is the codec of the video, None for none."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream(codec, rate=rate, layout=layout) if codec else None
        video = container.add_stream(picture, rate=5) if picture else None
        if video:
            assert isinstance(video, VideoStream)
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
            for number in range(round(SPOKEN_S * 5)):
                image = np.full((64, 64, 3), number, np.uint8)
                container.mux(video.encode(av.VideoFrame.from_ndarray(image)))
            container.mux(video.encode())
        if sound and samples is not None:
            assert isinstance(sound, AudioStream)
            frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
            frame.sample_rate = RATE
            resampler = av.AudioResampler(
                sound.format.name, layout, rate, frame_size=sound.frame_size or 1024
            )
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(sound.encode(part))
            container.mux(sound.encode())
    return path


def write_tracks(path: Path, *tracks: tuple[str | None, np.ndarray]) -> Path:
    """Sound tracks of 16 bits: what each is marked with as its language, and its samples."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in tracks]
        for stream, (mark, _) in zip(streams, tracks, strict=True):
            if mark:
                stream.metadata["language"] = mark
        for stream, (_, samples) in zip(streams, tracks, strict=True):
            pcm = (samples * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(pcm, "s16", "mono")
            frame.sample_rate, frame.pts = RATE, 0
            for packet in stream.encode(frame) + stream.encode():
                container.mux(packet)
    return path


def copies(folder: Path, *names: str) -> list[Path]:
    return [Path(shutil.copy(SPOKEN, folder / name)) for name in names]
