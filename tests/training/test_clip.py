import wave
from pathlib import Path

import av
import numpy as np
import pytest

from dragoman.pipeline.media import probe, read_audio
from training import clip

ROOT = Path(__file__).resolve().parents[2]
SOUND = ROOT / "samples" / "talk.wav"
COMMITTED = ROOT / "samples" / "talk.mp4"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "talk.mp4"
    clip.write(SOUND, path)
    return path


def pictures(path: Path) -> dict[float, np.ndarray]:
    with av.open(str(path)) as container:
        return {
            frame.time: frame.to_ndarray(format="rgb24").astype(int)
            for frame in container.decode(video=0)
        }


def test_it_is_what_players_and_repositories_like(made):
    info = probe(made)
    assert info.audio is not None and info.video is not None
    assert (info.audio.codec, info.audio.rate_hz, info.audio.channels) == ("aac", 16_000, 1)
    assert (info.video.codec, info.video.width, info.video.height) == ("h264", 640, 360)
    assert info.video.fps == clip.FPS
    assert info.duration_s == pytest.approx(30.4, abs=0.3)
    assert made.stat().st_size < 1_000_000
    head = made.read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")  # plays before it has been loaded


def test_the_same_input_gives_the_same_bytes(made, tmp_path):
    clip.write(SOUND, tmp_path / "again.mp4")
    assert (tmp_path / "again.mp4").read_bytes() == made.read_bytes()


def test_the_committed_clip_is_this_one(made):
    """Other builds of the encoder may give other bytes, but the same pictures, nearly."""
    new, old = pictures(made), pictures(COMMITTED)
    assert new.keys() == old.keys()
    assert max(np.abs(new[at] - old[at]).mean() for at in new) < 2


def test_slides_change_with_the_sentences(made):
    with wave.open(str(SOUND)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    starts = clip.sentence_starts(samples, 16_000)
    shown = pictures(made)
    times = sorted(shown)
    changes = [
        now
        for before, now in zip(times, times[1:], strict=False)
        if np.abs(shown[now] - shown[before]).mean() > 10
    ]
    assert len(changes) == len(starts) - 1 == 7
    for change, start in zip(changes, starts[1:], strict=True):
        assert -1 / clip.FPS - 1e-6 <= change - start <= 0  # at, or a frame before, the voice
    for slide, at in zip(clip.SLIDES, [0.0, *changes], strict=True):
        drawn = np.asarray(clip.draw_slide(slide)).astype(int)
        assert np.abs(shown[at] - drawn).mean() < 6, slide.title


def test_the_voice_is_in_time(made):
    with wave.open(str(SOUND)) as file:
        original = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32_768
    heard = np.concatenate(list(read_audio(made)))
    delays = range(-2_000, 2_001, 20)
    part = original[4_000:200_000]
    fits = [float(part @ heard[4_000 + d : 200_000 + d]) for d in delays]
    assert abs(delays[int(np.argmax(fits))]) <= 160  # 10 ms
    assert max(fits) > 0.9 * float(part @ part)


def test_sound_with_other_sentences_is_refused(tmp_path):
    path = tmp_path / "one.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(np.full(16_000, 9_000, "<i2").tobytes())
    with pytest.raises(ValueError, match="has 1 sentences, but there are 8 slides"):
        clip.write(path, tmp_path / "one.mp4")
