"""Only media files are opened, and a wrong header or sample does not cost what was said."""

import os
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dragoman.errors import InputError
from dragoman.pipeline.media import probe, read_audio
from dragoman.pipeline.opening import open_media
from tests.pipeline import batches, media_files
from tests.pipeline.fake_stages import fakes

RATE_HZ = 16_000


def read(path: Path) -> tuple[np.ndarray, list[str]]:
    warnings: list[str] = []
    return np.concatenate([*read_audio(path, warn=warnings.append)]), warnings


@pytest.fixture
def sound(tmp_path) -> Path:
    return media_files.write(tmp_path / "private.wav", media_files.speech(2.0), "pcm_s16le")


LISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{path}\n#EXT-X-ENDLIST\n",
    "list.m3u": "#EXTM3U\n#EXTINF:10,\n{path}\n",
    "list.mp4": "ffconcat version 1.0\nfile {name}\n",
    "list.mpd": "<?xml version='1.0'?><MPD><BaseURL>{path}</BaseURL></MPD>",
    "list.sdp": "v=0\nm=audio 49170 RTP/AVP 0\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_files_opens_none_of_them(name, sound, tmp_path):
    path = tmp_path / name
    path.write_text(LISTS[name].format(path=sound, name=sound.name))
    with pytest.raises(InputError, match="is a list of other files"):
        read(path)
    with pytest.raises(InputError):
        probe(path)


def test_ffmpeg_itself_would_open_them(sound, tmp_path):
    """Else the test above shows nothing."""
    path = tmp_path / "list.mp4"
    path.write_text(LISTS["list.mp4"].format(name=sound.name))
    with av.open(str(path), options={"safe": "0"}) as container:
        assert container.format.name == "concat" and container.streams.audio


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "live.wav")
    with pytest.raises(InputError, match="no file but a pipe"):
        open_media(tmp_path / "live.wav")


def test_a_header_that_tells_of_less_costs_nothing(sound):
    whole = sound.read_bytes()
    at = whole.index(b"data") + 4
    sound.write_bytes(whole[:at] + (1_000).to_bytes(4, "little") + whole[at + 4 :])
    samples, warnings = read(sound)
    assert abs(len(samples) - 2 * RATE_HZ) <= 2
    assert len(warnings) == 1 and "tells of less than the 2.0 s" in warnings[0]


def test_a_large_chunk_behind_the_sound_is_no_sound(tmp_path):
    path = tmp_path / "cover.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(bytes(3_200))
    with path.open("ab") as file:
        file.write(b"id3 " + (90_000).to_bytes(4, "little") + bytes(range(250)) * 360)
    samples, warnings = read(path)
    assert len(samples) == 1_600 and not samples.any() and warnings == []


def test_floats_in_the_range_of_integers_are_scaled(tmp_path):
    x = media_files.speech(2.0)
    path = media_files.write(tmp_path / "plain.wav", x, "pcm_f32le")
    plain, _ = read(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 8
    data[at:] = (np.frombuffer(bytes(data[at:]), "<f4") * 32_768).astype("<f4").tobytes()
    path.write_bytes(data)
    samples, warnings = read(path)
    loud = np.abs(plain) > 0.02  # the hiss before the first word comes before it can be known
    assert np.allclose(samples[loud], plain[loud], atol=1e-4)
    assert "range of 16-bit integers" in warnings[0]


@pytest.mark.parametrize(
    "level_db, said", [(-6, None), (-36, None), (-50, "its peak is at -50 dB"), (-200, None)]
)
def test_what_is_very_quiet_is_called_so(tmp_path, level_db, said):
    x = media_files.speech(1.0)
    x *= 10 ** (level_db / 20) / np.abs(x).max()
    _, warnings = read(media_files.write(tmp_path / "quiet.wav", x, "pcm_s16le"))
    assert [said in sentence and "raise its level" in sentence for sentence in warnings] == (
        [True] if said else []
    )


def test_a_leap_of_a_day_is_left_out(tmp_path):
    path, x = tmp_path / "leap.mkv", media_files.speech(4.0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=RATE_HZ, layout="mono")
        for at in range(0, len(x) - 1_600, 1_600):
            part = (x[None, at : at + 1_600] * 32_767).astype("<i2")
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
            frame.sample_rate, frame.time_base = RATE_HZ, Fraction(1, RATE_HZ)
            frame.pts = at + (90_000 * RATE_HZ if at >= 2 * RATE_HZ else 0)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    samples, warnings = read(path)
    assert 3.5 * RATE_HZ < len(samples) < 5 * RATE_HZ
    assert sum("leap by 25.0 h" in sentence for sentence in warnings) == 1


def test_a_name_that_is_not_utf_8_costs_the_others_nothing(tmp_path):
    good = batches.sound(tmp_path / "good.wav", 6)
    strange = os.fsencode(tmp_path) + b"/x\xff.wav"
    with open(strange, "wb") as file:
        file.write(good.read_bytes())
    os.mkfifo(tmp_path / "pipe.wav")
    with batches.workers(fakes()) as pool:
        results = batches.run(batches.batch([tmp_path], tmp_path / "out"), pool)
    assert results["good.wav"].status == "done"
    failed = {result.reason for name, result in results.items() if name != "good.wav"}
    assert any("not UTF-8" in reason for reason in failed), failed
