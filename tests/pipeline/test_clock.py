"""The clock of subtitles is a player's: in files with every way to say when their sound begins."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av import AudioStream, VideoStream

from dragoman.errors import InputError
from dragoman.pipeline.media import read_audio
from dragoman.pipeline.onset import onset
from dragoman.pipeline.segments import segments
from dragoman.stages.messages import SessionOptions
from dragoman.stages.segment import SegmentStage
from tests.pipeline import media_files

RATE, FPS = 48_000, 25
ONSET_S = 0.71  # of the first word in SPOKEN
LATE_S = 4.087
HOUR_S = 3_600


def film(path: Path, codec: str, sound_s: float, picture_s: float = 0.0, **options: str) -> Path:
    """A film with speech whose sound begins at one time and whose picture at another."""
    with av.open(str(path), "w", options=options) as container:
        sound = container.add_stream(codec, rate=RATE, layout="mono")
        video = container.add_stream("libvpx" if path.suffix == ".webm" else "mpeg4", rate=FPS)
        assert isinstance(sound, AudioStream) and isinstance(video, VideoStream)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        for number in range(FPS * 2):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8))
            picture.pts = number + round(picture_s * FPS)
            picture.time_base = Fraction(1, FPS)
            container.mux(video.encode(picture))
        container.mux(video.encode())
        speech = av.AudioFrame.from_ndarray(media_files.speech(4.5)[None], "fltp", "mono")
        speech.sample_rate = media_files.RATE
        resampler = av.AudioResampler(
            sound.format.name, "mono", RATE, frame_size=sound.frame_size or 1_024
        )
        taken = 0
        for part in [*resampler.resample(speech), *resampler.resample(None)]:
            part.pts, part.time_base = round(sound_s * RATE) + taken, Fraction(1, RATE)
            taken += part.samples
            container.mux(sound.encode(part))
        container.mux(sound.encode())
    return path


def first_onset_s(path: Path) -> float:
    """Where the first cue begins: as a batch finds it, without a model."""
    options = SessionOptions(finals_only=True)
    speech = next(segments(read_audio(path), SegmentStage(), options))
    return (speech.start + onset(speech.samples)) / media_files.RATE


@pytest.mark.parametrize(
    ("name", "codec", "sound_s", "picture_s", "options"),
    [
        ("priming.mp4", "aac", 0, 0, {}),
        ("late.mp4", "aac", LATE_S, 0, {}),
        ("late.mov", "aac", LATE_S, 0, {}),
        ("late.mkv", "aac", LATE_S, 0, {}),
        ("pcm.mkv", "pcm_s16le", LATE_S, 0, {}),
        ("late.webm", "libopus", LATE_S, 0, {}),
        ("late.ts", "mp2", LATE_S, 0, {}),
        ("hour.ts", "aac", HOUR_S + 2, HOUR_S, {}),
        ("fragments.mp4", "aac", LATE_S, 0, {"movflags": "frag_keyframe+empty_moov+delay_moov"}),
        ("late picture.mkv", "aac", 0, 1.5, {}),
    ],
)
def test_the_first_cue_comes_with_the_voice(tmp_path, name, codec, sound_s, picture_s, options):
    path = film(tmp_path / name, codec, sound_s, picture_s, **options)
    start_s = min(sound_s, picture_s)
    assert first_onset_s(path) == pytest.approx(sound_s - start_s + ONSET_S, abs=0.1)


def test_an_edit_list_that_leaves_out_the_beginning_is_followed(tmp_path):
    """The sound of the first half second is in the file, and no player plays it."""
    path = film(
        tmp_path / "cut.mp4", "aac", -0.5, 0, use_editlist="1", avoid_negative_ts="disabled"
    )
    with av.open(str(path)) as container:
        first = next(container.decode(audio=0))
        assert first.pts is not None and first.pts >= 0
    assert first_onset_s(path) == pytest.approx(ONSET_S - 0.5, abs=0.1)


def test_the_onset_is_where_the_voice_is_not_where_the_segment_is():
    noise = np.random.default_rng(0).normal(0, 0.001, 16_000).astype(np.float32)
    voice = np.sin(np.arange(16_000) * 0.2).astype(np.float32) * 0.3
    samples = noise.copy()
    samples[4_800:] += voice[4_800:]
    assert abs(onset(samples) - 4_800) <= 160
    samples[1_600:1_700] += 0.5  # a click
    assert abs(onset(samples) - 4_800) <= 160
    assert onset(voice) == 0 and onset(voice[:100]) == 0
    assert onset(np.zeros(16_000, np.float32)) == 0
    late = np.concatenate([noise, noise, voice])
    assert onset(late) == 0  # nothing that the segmenter puts before a voice is so long


def test_a_track_is_chosen_by_its_number(tmp_path):
    speech, silence = media_files.speech(2.0), np.zeros(32_000, np.float32)
    path = media_files.write_tracks(tmp_path / "two.mkv", ("spa", silence), ("eng", speech))
    heard = np.concatenate(list(read_audio(path, track=2, language="es")))
    np.testing.assert_allclose(heard, speech, atol=1e-3)
    with pytest.raises(InputError, match="no sound track 3: choose one of 1 to 2"):
        read_audio(path, track=3)
