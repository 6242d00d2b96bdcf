import struct
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from dragoman.errors import InputError
from dragoman.pipeline import frames as frames_module
from dragoman.pipeline.frames import read_frames
from dragoman.pipeline.media import read_audio
from dragoman.stages.messages import VideoFrame
from tests.pipeline.videos import garble, slide, write


def places(path, **options):
    return [(p.frame.time, p.frame.index) for p in read_frames(path, **options)]


def test_pictures_come_at_the_first_frame_at_scene_changes_and_every_five_seconds(tmp_path):
    slides = [(0, slide(1)), (2.3, slide(2)), (9, slide(4)), (11.5, slide(1))]
    path = write(tmp_path / "talk.mp4", slides, 18)
    assert places(path) == [(0, 0), (2.3, 23), (7.3, 73), (9, 90), (11.5, 115), (16.5, 165)]
    assert places(path, every_s=100) == [(0, 0), (2.3, 23), (9, 90), (11.5, 115)]


def test_pixels_are_those_of_the_scene(tmp_path):
    slides = [(0, slide(1)), (2, slide(4))]
    first, second = read_frames(write(tmp_path / "talk.mp4", slides, 4))
    assert first.pixels is not None and second.pixels is not None
    for pixels, (_, page) in zip((first.pixels, second.pixels), slides, strict=True):
        assert pixels.dtype == np.uint8 and pixels.shape == page.shape
        assert np.abs(pixels.astype(int) - page).mean() < 6
    assert np.abs(first.pixels.astype(int) - second.pixels).mean() > 20


def test_a_flicker_is_not_a_scene_but_what_lasts_a_second_is(tmp_path):
    blink = [(0, slide(1)), (0.5, slide(4)), (0.7, slide(1)), (3, slide(3)), (3.4, slide(5))]
    assert places(write(tmp_path / "blink.mp4", blink, 5)) == [(0, 0), (3, 30), (4, 40)]
    # A recorder of screens writes a frame where something changes, and none in between.
    with av.open(tmp_path / "sparse.mkv", "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 90, "yuv420p"
        stream.time_base = Fraction(1, 1000)
        for time_ms, number in ((0, 1), (3000, 2), (3400, 4), (9000, 5), (9500, 3)):
            frame = av.VideoFrame.from_ndarray(slide(number), format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    seen = [(0, 0), (3, 1), (3.4, 2), (9, 3), (9.5, 4)]
    assert places(tmp_path / "sparse.mkv") == seen


def test_a_still_picture_with_noise_is_one_scene(tmp_path):
    random = np.random.default_rng(0)
    noisy = [
        (t / 5, np.clip(slide(2) + random.normal(0, 6, (90, 160, 1)), 0, 255).astype(np.uint8))
        for t in range(40)
    ]
    assert places(write(tmp_path / "noisy.mp4", noisy, 8), every_s=100) == [(0, 0)]


def test_time_is_the_time_of_the_sound(tmp_path):
    """Both tracks of this file begin late; sample 0 is the earlier of the two."""
    sound = np.zeros(16_000 * 9, np.float32)
    slides = [(0, slide(1)), (2, slide(3))]
    path = write(tmp_path / "late.mkv", slides, 4, sound=sound, start_s=2.5)
    assert sum(map(len, read_audio(path))) > 16_000 * 8
    assert places(path) == [(2.5, 0), (4.5, 20)]


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
def test_a_turned_video_is_upright(tmp_path, quarter):
    """The matrix is written by hand: it maps the stored picture onto the screen."""
    upright = slide(3)
    stored = np.ascontiguousarray(np.rot90(upright, quarter))  # counter-clockwise
    path = write(tmp_path / "phone.mp4", [(0, stored)], 1)
    # What was stored turned to the left is turned to the right on the screen.
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarter]
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 20] = struct.pack(">5i", cos << 16, sin << 16, 0, -sin << 16, cos << 16)
    path.write_bytes(data)
    (picture,) = read_frames(path)
    assert picture.pixels is not None and picture.pixels.shape == upright.shape
    assert np.abs(picture.pixels.astype(int) - upright).mean() < 6


def test_large_pictures_are_made_smaller(tmp_path):
    path = write(tmp_path / "large.mp4", [(0, slide(3, 2560, 1440))], 0.2)
    (picture,) = read_frames(path)
    assert picture.pixels is not None and picture.pixels.shape == (720, 1280, 3)


@pytest.mark.parametrize("content", [b"", b"not a video", b"\x00" * 5000])
def test_what_is_no_video_has_no_pictures(tmp_path, content):
    path = tmp_path / "talk.mp4"
    path.write_bytes(content)
    assert list(read_frames(path)) == []
    assert list(read_frames(tmp_path / "missing.mp4")) == []


def test_sound_alone_and_an_albums_cover_have_no_pictures(tmp_path):
    with av.open(tmp_path / "sound.mka", "w") as container:
        stream = container.add_stream("flac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), "s16", "mono")
        frame.sample_rate, frame.pts = 16_000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert list(read_frames(tmp_path / "sound.mka")) == []


def test_a_broken_video_ends_where_it_breaks(tmp_path):
    whole = write(tmp_path / "whole.mkv", [(0, slide(1)), (2, slide(3)), (4, slide(5))], 6)
    assert len(places(whole)) == 3
    data = bytearray(whole.read_bytes())
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) // 2])
    assert places(cut)[0] == (0, 0) and len(places(cut)) < 3
    random = np.random.default_rng(1)
    damaged = tmp_path / "damaged.mkv"
    middle = slice(len(data) // 3, len(data))
    data[middle] = random.integers(0, 256, len(data[middle]), np.uint8).tobytes()
    damaged.write_bytes(data)
    found = []
    with pytest.raises(InputError, match="damaged packets? of video"):
        for shown in read_frames(damaged):
            found.append(shown.frame)
    assert len(found) <= 3


def test_a_part_that_cannot_be_decoded_is_said_behind_what_can(tmp_path):
    path = write(tmp_path / "talk.mp4", [(0, slide(1)), (2, slide(3)), (4, slide(5))], 6)
    garble(path, 3.0)
    pictures = read_frames(path)
    assert [next(pictures).frame for _ in range(2)] == [VideoFrame(0, 0), VideoFrame(2, 20)]
    with pytest.raises(InputError, match=r"talk\.mp4: \d+ damaged packets? of video w.* left out"):
        list(pictures)


def test_memory_does_not_grow_with_the_video(tmp_path, monkeypatch):
    """No more decoded frames are alive at a time than the decoder's and the sampler's."""
    alive, most = set(), 0
    decoded = frames_module._decoded

    class Counted:
        def __init__(self, frame):
            self._frame = frame
            alive.add(id(self))

        def __getattr__(self, name):
            return getattr(self._frame, name)

        def __del__(self):
            alive.discard(id(self))

    def counted(container, stream, damage):
        nonlocal most
        for frame in decoded(container, stream, damage):
            most = max(most, len(alive))
            yield Counted(frame)

    monkeypatch.setattr(frames_module, "_decoded", counted)
    path = write(tmp_path / "long.mp4", [(t, slide(t % 6)) for t in range(0, 40, 2)], 40)
    assert len(places(path)) == 20
    assert 1 <= most <= 4


def test_reading_is_lazy(tmp_path):
    path = write(tmp_path / "talk.mp4", [(0, slide(1)), (2, slide(3))], 4)
    pictures = read_frames(path)
    first = next(pictures)
    pictures.close()
    assert replace(first, pixels=None).frame.index == 0
