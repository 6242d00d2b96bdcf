"""Shot changes are found in a film as it comes out of an encoder, and nothing else is one."""

from pathlib import Path

import av
import numpy as np
import pytest

from dragoman.errors import InputError
from dragoman.pipeline.frames import read_frames, shot_changes
from dragoman.pipeline.shots import Shots
from tests.pipeline.videos import garble

FPS = 24
WIDTH, HEIGHT = 320, 180


def scene(seed: int, light: int) -> np.ndarray:
    """A still with large soft shapes, wider than the picture, around a brightness: uint8 [H, W]."""
    random = np.random.default_rng(seed)
    coarse = random.normal(light, 25, (HEIGHT // 20, 2 * WIDTH // 20))
    return np.clip(np.kron(coarse, np.ones((20, 20))), 0, 255).astype(np.uint8)


LIGHT, DARK, MIDDLE = scene(0, 170), scene(1, 70), scene(2, 120)


def shot(still: np.ndarray, frames: int, pan: int = 2, first: int = 0) -> list[np.ndarray]:
    """``frames`` of a camera that moves over ``still`` by so many pixels a frame, with noise."""
    random = np.random.default_rng(frames)
    views = [still[:, (first + k * pan) % WIDTH :][:, :WIDTH] for k in range(frames)]
    return [np.clip(view + random.normal(0, 4, view.shape), 0, 255) for view in views]


def film(path: Path, pages: list[np.ndarray]) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for page in pages:
            frame = av.VideoFrame.from_ndarray(page.astype(np.uint8), format="gray")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_hard_cuts_are_found_to_the_frame(tmp_path):
    shots = [shot(LIGHT, 30), shot(DARK, 17), shot(MIDDLE, 9), shot(DARK, 40), shot(LIGHT, 24)]
    path = film(tmp_path / "cuts.mp4", sum(shots, []))
    assert shot_changes(path) == [round(at / FPS, 3) for at in (30, 47, 56, 96)]


def test_movement_flashes_and_fades_are_no_cuts(tmp_path):
    fast = shot(LIGHT, 24, pan=12)
    flashed = shot(DARK, 24)
    flashed[12] = np.full((HEIGHT, WIDTH), 250)
    mixed = [LIGHT[:, :WIDTH] * (1 - k / 24) + DARK[:, :WIDTH] * (k / 24) for k in range(25)]
    for name, pages in (("fast", fast), ("flash", flashed), ("fade", mixed)):
        assert shot_changes(film(tmp_path / f"{name}.mp4", pages)) == [], name


def test_every_frame_up_to_the_last_picture_is_seen(tmp_path):
    """What a batch relies on: the changes before a picture are known when that is there."""
    path = film(tmp_path / "cuts.mp4", shot(LIGHT, 100) + shot(DARK, 200) + shot(LIGHT, 48))
    shots = Shots()
    for picture in read_frames(path, shots=shots):
        expected = [at for at in (100 / FPS, 300 / FPS) if at < picture.frame.time]
        assert shots.changes[: len(expected)] == [round(at, 3) for at in expected]
    assert len(shots.changes) == 2


def test_the_changes_of_a_damaged_film_are_those_that_can_be_seen(tmp_path):
    path, told = film(tmp_path / "cut.mp4", shot(LIGHT, 30) + shot(DARK, 90)), []
    garble(path, 3.0)
    assert shot_changes(path, told.append) == [round(30 / FPS, 3)]
    assert len(told) == 1 and "of video" in told[0] and "left out" in told[0]


def test_what_is_no_film_says_so(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        shot_changes(tmp_path / "none.mp4")
