"""Small media files in many containers, made from one recording of speech."""

import shutil
import wave
import zipfile
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
    "camera.mov": ("aac", "mpeg4", 48_000, "stereo"),
    "old film.avi": ("libmp3lame", "mpeg4", 44_100, "stereo"),
    "broadcast.ts": ("mp2", "mpeg2video", 48_000, "stereo"),
    "camcorder.mts": ("ac3", "mpeg2video", 48_000, "stereo"),
    "web.flv": ("aac", "flv1", 44_100, "stereo"),
    "tablet.m4v": ("aac", "mpeg4", 44_100, "stereo"),
    "apple.caf": ("pcm_s16be", None, 44_100, "mono"),
    "studio.aiff": ("pcm_s16be", None, 44_100, "mono"),
    "unix.au": ("pcm_s16be", None, 8_000, "mono"),
    "surround.mka": ("ac3", None, 48_000, "5.1"),
    "radio.mp2": ("mp2", None, 44_100, "mono"),
    "raw.aac": ("aac", None, 44_100, "stereo"),
    "lossless.m4a": ("alac", None, 44_100, "stereo"),
    "packed.wv": ("wavpack", None, 44_100, "stereo"),
    "mobile.amr": ("libopencore_amrnb", None, 8_000, "mono"),
    "24 bit.wav": ("pcm_s24le", None, 44_100, "mono"),
    "float.wav": ("pcm_f32le", None, 48_000, "mono"),
    "mulaw.wav": ("pcm_mulaw", None, 8_000, "mono"),
    "alaw.wav": ("pcm_alaw", None, 8_000, "mono"),
    "8 bit.wav": ("pcm_u8", None, 16_000, "mono"),
    "adpcm.wav": ("adpcm_ima_wav", None, 22_050, "mono"),
}
# What is said on each of several channels, as a share of the voice.
CHANNELS = {
    "opposite phases.wav": (1, -1),
    "dead channel.wav": (0, 1),
    "three.wav": (0.5, 1, 0.5),
    "one of six.wav": (0, 0, 0, 0.32, 0, 0),
}
LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 6: "5.1"}
BAD = {
    "silent film.mp4": "no sound track",
    "cut off.mp4": "not a media file that can be read",
    "empty.mp4": "empty (0 bytes)",
    "text.mp4": "not a media file that can be read",
    "noise.mp3": "not a media file that can be read",
    "header.wav": "not a media file that can be read",
    "half a header.flac": "not a media file that can be read",
    "archive.mkv": "not a media file that can be read",
}


def speech(seconds: float = SPOKEN_S) -> np.ndarray:
    with wave.open(str(SPOKEN)) as file:
        assert file.getframerate() == RATE and file.getnchannels() == 1
        samples = np.frombuffer(file.readframes(round(seconds * RATE)), "<i2")
    return samples.astype(np.float32) / 32768


def make_all(folder: Path) -> None:
    """All of GOOD, CHANNELS and BAD, and `broken off.mp3`, of which the first half is whole."""
    for name, form in GOOD.items():
        write(folder / name, speech(), *form)
    for name, shares in CHANNELS.items():
        samples = np.outer(np.array(shares, np.float32), speech())
        write(folder / name, samples, "pcm_s16le", None, RATE, LAYOUTS[len(shares)])
    write(folder / "silent film.mp4", None, None, "mpeg4")
    cut(folder / "film.mp4", folder / "cut off.mp4", 0.6)
    cut(folder / "song.mp3", folder / "broken off.mp3", 0.56)
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("This is no film.\n" * 40)
    (folder / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(20_000))
    (folder / "header.wav").write_bytes((folder / "phone call.wav").read_bytes()[:44])
    (folder / "half a header.flac").write_bytes((folder / "master.flac").read_bytes()[:30])
    with zipfile.ZipFile(folder / "archive.mkv", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "text.mp4", "text.mp4")


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
    """``samples`` float32 [S] or [C, S] at 16 kHz; ``picture``: codec of the video, if any."""
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
            channels = np.atleast_2d(samples)
            frame = av.AudioFrame.from_ndarray(channels, "fltp", LAYOUTS[len(channels)])
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
