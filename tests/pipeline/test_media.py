"""The files are made here with PyAV: a tone of 440 Hz in many containers, whole and damaged."""

import tracemalloc
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dragoman.errors import InputError
from dragoman.pipeline.media import left_out, probe, read_audio
from tests.pipeline import media_files

SECONDS = 3.0
RATE = 16_000


def tone(rate: int, seconds: float = SECONDS, hertz: float = 440.0) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def write_wav(path: Path, rate: int, channels: np.ndarray) -> Path:
    """channels: float [C, S]; 16-bit PCM without a channel mask."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((channels.T * 32767).astype("<i2").tobytes())
    return path


def write_av(
    path: Path,
    codec: str | None,
    rate: int = 48_000,
    layout: str = "stereo",
    seconds: float = SECONDS,
    late_s: float = 0.0,
    hole_s: float = 0.0,
    video_s: float = 0.0,
    language: str | None = None,
) -> Path:
    """A tone in ``codec``, beginning at ``late_s``, with a hole in its middle; video if asked."""
    with av.open(str(path), "w") as container:
        audio = container.add_stream(codec, rate=rate, layout=layout) if codec else None
        video = container.add_stream("mpeg4", rate=10) if video_s else None
        packets = []
        if video:
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
            for number in range(round(video_s * 10)):
                picture = np.full((64, 64, 3), number % 250, np.uint8)
                frame = av.VideoFrame.from_ndarray(picture)
                frame.pts = number
                packets += video.encode(frame)
            packets += video.encode()
        if audio:
            if language:
                audio.metadata["language"] = language
            packets += list(_encoded(audio, rate, layout, seconds, late_s, hole_s))
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            container.mux(packet)
    return path


def _encoded(audio, rate, layout, seconds, late_s, hole_s):
    channels = len(av.AudioLayout(layout).channels)
    audio.open()
    size = audio.frame_size or 1024
    resampler = av.AudioResampler(audio.format.name, layout, rate)
    samples = tone(rate, seconds)
    for at in range(0, len(samples), size):
        piece = np.repeat(samples[None, at : at + size], channels, axis=0)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), "fltp", layout)
        frame.sample_rate = rate
        hole = hole_s if at >= len(samples) // 2 else 0.0
        pts = at + round((late_s + hole) * rate)
        (frame,) = resampler.resample(frame)
        frame.pts, frame.time_base = pts, Fraction(1, rate)
        yield from audio.encode(frame)
    yield from audio.encode()


def read(path: Path, **options) -> tuple[np.ndarray, list[str]]:
    warnings: list[str] = []
    pieces = list(read_audio(path, warn=warnings.append, **options))
    assert all(piece.dtype == np.float32 and piece.ndim == 1 for piece in pieces)
    samples = np.concatenate(pieces)
    assert np.abs(samples).max() <= 1.0
    return samples, warnings


def sounding(samples: np.ndarray) -> tuple[float, float]:
    """Seconds of the first and last sample that belong to the tone."""
    loud = np.flatnonzero(np.abs(samples) > 0.1)
    return loud[0] / RATE, loud[-1] / RATE


def check_tone(samples: np.ndarray, level: float = 0.5) -> None:
    """A pure 440 Hz tone of the right level."""
    middle = samples[len(samples) // 2 - 8_000 : len(samples) // 2 + 8_000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))) / len(middle) * 4
    peak = int(np.argmax(spectrum))
    assert abs(peak * RATE / len(middle) - 440) <= 1
    assert spectrum[peak] == pytest.approx(level, rel=0.06)
    spectrum[peak - 5 : peak + 6] = 0
    assert spectrum.max() < 0.02 * level


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_wav_of_any_rate_and_channel_count(tmp_path, rate, channels):
    path = write_wav(tmp_path / "a.wav", rate, np.repeat(tone(rate)[None], channels, axis=0))
    samples, warnings = read(path)
    assert abs(len(samples) - SECONDS * RATE) <= 2
    check_tone(samples)
    assert warnings == []
    info = probe(path)
    assert info.duration_s == pytest.approx(SECONDS)
    assert info.audio is not None and not info.has_video
    assert (info.audio.rate_hz, info.audio.channels) == (rate, channels)


@pytest.mark.parametrize("channels", [2, 6])
def test_sound_on_one_channel_only_is_heard(tmp_path, channels):
    for only in range(channels):
        sound = np.zeros((channels, 3 * 48_000), np.float32)
        sound[only] = tone(48_000)
        samples, _ = read(write_wav(tmp_path / "a.wav", 48_000, sound))
        check_tone(samples)


@pytest.mark.parametrize("kind", ["u8", "s16", "s32", "f32le", "f64le"])
def test_every_sample_format_keeps_its_level(tmp_path, kind):
    path = write_av(tmp_path / "a.wav", f"pcm_{kind}{'le' if kind in ('s16', 's32') else ''}")
    check_tone(read(path)[0])


@pytest.mark.parametrize(
    "name, codec, video_s",
    [
        ("a.mp3", "libmp3lame", 0),
        ("a.flac", "flac", 0),
        ("a.ogg", "libopus", 0),
        ("a.webm", "libopus", 0),
        ("a.m4a", "aac", 0),
        ("a.mp4", "aac", SECONDS),
        ("a.mkv", "aac", SECONDS),
        ("a.ts", "aac", SECONDS),
        ("a.mov", "pcm_s16le", 5.0),
    ],
)
def test_containers_and_codecs(tmp_path, name, codec, video_s):
    path = write_av(tmp_path / name, codec, video_s=video_s)
    samples, warnings = read(path)
    assert abs(len(samples) / RATE - SECONDS) < 0.06
    first, last = sounding(samples)
    assert first < 0.04 and abs(last - SECONDS) < 0.06
    check_tone(samples, level=0.475 if codec == "libmp3lame" else 0.5)
    assert warnings == []
    info = probe(path)
    assert info.has_audio and info.has_video == bool(video_s)
    assert info.duration_s == pytest.approx(max(SECONDS, video_s), abs=0.1)


def test_a_name_is_never_read_as_a_protocol_or_a_pattern(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_av(tmp_path / "a.mkv", "flac").rename("talk: part %d.mkv")
    check_tone(read(Path("talk: part %d.mkv"))[0])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_late_sound_track_keeps_its_time(tmp_path, name):
    path = write_av(tmp_path / name, "aac", late_s=1.0, video_s=5.0)
    samples, warnings = read(path)
    first, last = sounding(samples)
    assert abs(first - 1.0) < 0.05
    assert abs(last - 4.0) < 0.05
    assert not samples[: round(0.9 * RATE)].any()
    assert warnings == []


@pytest.mark.parametrize("name, hole_s", [("a.mkv", 2.0), ("a.mkv", 0.2), ("a.mp4", 2.0)])
def test_a_hole_is_filled_with_silence(tmp_path, name, hole_s):
    path = write_av(tmp_path / name, "aac", hole_s=hole_s, video_s=6.0)
    samples, _ = read(path)
    assert abs(len(samples) / RATE - SECONDS - hole_s) < 0.06
    quiet = samples[
        round((SECONDS / 2 + 0.06) * RATE) : round((SECONDS / 2 + hole_s - 0.02) * RATE)
    ]
    assert len(quiet) and np.abs(quiet).max() < 0.02
    assert abs(sounding(samples)[1] - SECONDS - hole_s) < 0.06


def write_tracks(path: Path, *marks: str | None) -> Path:
    """The first track is a tone of 440 Hz, each other an octave higher."""
    tones = (tone(RATE, hertz=440 * 2**at) for at in range(len(marks)))
    return media_files.write_tracks(path, *zip(marks, tones, strict=True))


def test_tracks_can_be_chosen(tmp_path):
    path = write_tracks(tmp_path / "two.mkv", "spa", "fra")
    assert [track.language for track in probe(path).audio_tracks] == ["spa", "fra"]
    check_tone(read(path, track=1)[0])
    np.testing.assert_allclose(read(path, track=2)[0], tone(RATE, hertz=880), atol=1e-3)
    with pytest.raises(InputError, match="no sound track 3: choose one of 1 to 2"):
        read_audio(path, track=3)


@pytest.mark.parametrize(
    "marks, language, heard, why",
    [
        (("eng", "spa"), "es", 2, ""),
        (("eng", "spa"), "en", 1, ""),
        (("eng", "ger"), "de", 2, ""),
        (("eng", "deu", "ger"), "de", 2, ""),
        (("eng", "es-MX"), "es", 2, ""),
        ((None, "spa"), "es", 2, ""),
        (("eng", None), "es", 1, ", as none is marked as es"),
        (("eng", "spa"), None, 1, ""),
    ],
)
def test_the_track_in_the_language_spoken_is_heard(tmp_path, marks, language, heard, why):
    path = write_tracks(tmp_path / "film.mkv", *marks)
    samples, warnings = read(path, language=language)
    np.testing.assert_allclose(samples, tone(RATE, hertz=440 * 2 ** (heard - 1)), atol=1e-3)
    tags = ", ".join(mark or "not marked" for mark in marks)
    says = f"{path} has {len(marks)} sound tracks ({tags}): number {heard} is heard{why}"
    assert warnings == [says]
    assert read(path, track=1, language=language)[1] == []


def test_nothing_is_said_about_one_track(tmp_path):
    path = write_tracks(tmp_path / "film.mkv", "eng")
    assert read(path, language="es")[1] == []


@pytest.mark.parametrize("packets, said", [(1, "1 damaged packet of"), (2, "2 damaged packets of")])
def test_packets_are_counted_in_english(packets, said):
    verb = "was" if packets == 1 else "were"
    assert left_out(packets, "video") == f"{said} video {verb} left out"


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_text("Not a film, a text.\n" * 200), "not a media file"),
        (lambda path: path.write_bytes(bytes(range(256)) * 40), "not a media file"),
        (lambda path: write_av(path, None, video_s=1.0), "no sound track"),
    ],
    ids=["missing", "folder", "empty", "text", "bytes", "silent film"],
)
def test_what_cannot_be_read_is_said_at_once(tmp_path, make, says):
    path = tmp_path / "film.mp4"
    make(path)
    with pytest.raises(InputError, match=says) as caught:
        read_audio(path)
    assert str(path) in str(caught.value)
    assert ": " in str(caught.value)  # what to do stands after the colon
    if says != "no sound track":
        with pytest.raises(InputError, match=says):
            probe(path)


def test_a_film_without_sound_can_be_probed(tmp_path):
    info = probe(write_av(tmp_path / "a.mp4", None, video_s=2.0))
    assert not info.has_audio
    assert info.video is not None
    assert (info.video.width, info.video.height, info.video.fps) == (64, 64, 10.0)


def truncate(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


@pytest.mark.parametrize("rate", [1, 999, 0x40001F40])
def test_a_rate_that_no_recorder_has_is_refused(tmp_path, rate):
    path = tmp_path / "damaged.wav"
    media_files.write(path, media_files.speech(0.2), "pcm_s16le")
    data = path.read_bytes()
    path.write_bytes(data[:24] + rate.to_bytes(4, "little") + data[28:])
    with pytest.raises(InputError, match=f"damaged.wav: sound at {rate} Hz cannot be heard"):
        list(read_audio(path))


@pytest.mark.parametrize(
    "name, codec",
    [("a.wav", "pcm_s16le"), ("a.mkv", "aac"), ("a.flac", "flac"), ("a.mp3", "libmp3lame")],
)
def test_a_truncated_file_gives_what_it_has_and_a_warning(tmp_path, name, codec):
    path = truncate(write_av(tmp_path / name, codec, seconds=10), 0.5)
    samples, warnings = read(path)
    assert 4.0 < len(samples) / RATE < 6.0
    check_tone(samples, level=0.475 if codec == "libmp3lame" else 0.5)
    assert any("seems truncated" in warning for warning in warnings)
    assert all(str(path) in warning for warning in warnings)


def test_a_wav_written_to_a_pipe_is_not_called_truncated(tmp_path):
    path = write_wav(tmp_path / "a.wav", RATE, tone(RATE)[None])
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\x7f"
    path.write_bytes(content)
    samples, warnings = read(path)
    assert (len(samples), warnings) == (3 * RATE, [])


def test_a_truncated_file_without_its_index_is_refused(tmp_path):
    path = truncate(write_av(tmp_path / "a.mp4", "aac"), 0.5)
    with pytest.raises(InputError, match="wait until it is whole"):
        read_audio(path)


def test_a_file_cut_off_before_its_sound_is_refused(tmp_path):
    path = write_av(tmp_path / "a.wav", "pcm_s16le")
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(InputError, match="nothing of its sound track"):
        list(read_audio(path))


def test_damage_in_the_middle_is_left_out(tmp_path):
    path = write_av(tmp_path / "a.mkv", "flac", seconds=10, video_s=10)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 6_000] = np.random.default_rng(0).bytes(6_000)
    path.write_bytes(content)
    samples, warnings = read(path)
    assert warnings
    assert 9.0 < len(samples) / RATE < 10.1
    assert abs(sounding(samples)[1] - 10.0) < 0.1  # what follows is still in its place


def test_a_broken_time_stamp_is_not_filled_with_silence(tmp_path):
    path = write_av(tmp_path / "a.mkv", "pcm_s16le", seconds=20, video_s=20)
    content = bytearray(path.read_bytes())
    cluster = content.rindex(b"\x1f\x43\xb6\x75")
    stamp = content.index(b"\xe7\x82", cluster) + 2  # two bytes, in milliseconds
    assert int.from_bytes(content[stamp : stamp + 2], "big") < 20_000
    content[stamp : stamp + 2] = b"\xff\xff"
    path.write_bytes(content)
    assert abs(len(read(path)[0]) / RATE - 20) < 0.1


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = write_wav(tmp_path / "a.wav", 8_000, np.repeat(tone(8_000, 300)[None], 2, axis=0))
    tracemalloc.start()
    count = sum(len(piece) for piece in read_audio(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert abs(count - 300 * RATE) <= 2
    assert peak < 1_000_000
