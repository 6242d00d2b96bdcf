"""Damaged media files are read, or refused in a sentence that names the file."""

import contextlib

import numpy as np
import pytest
from av import logging
from hypothesis import given

from dragoman.errors import InputError
from dragoman.pipeline.media import probe, read_audio
from tests.fuzz.damage import bounded, damaged, frugal, many
from tests.pipeline import media_files

SECONDS = 0.4
HOURS = 3 * 3_600 * 16_000  # samples; nobody reads more of a file of some kB
FORMS = {
    "a.wav": ("pcm_s16le", None, 8_000, "stereo"),
    "f.wav": ("pcm_f32le", None, 16_000, "mono"),
    "a.mp4": ("aac", None, 44_100, "stereo"),
    "a.mkv": ("libopus", None, 48_000, "mono"),
    "a.ogg": ("libopus", None, 48_000, "mono"),
    "a.flac": ("flac", None, 16_000, "mono"),
    "a.mp3": ("libmp3lame", None, 44_100, "mono"),
    "a.ts": ("aac", None, 44_100, "mono"),
    "a.aiff": ("pcm_s16be", None, 16_000, "mono"),
}


@pytest.fixture(scope="module", autouse=True)
def silent():
    logging.set_level(logging.PANIC)
    yield
    logging.restore_default_callback()


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    tone = 0.3 * np.sin(np.arange(round(SECONDS * 16_000)) / 7).astype(np.float32)
    return {
        name: media_files.write(folder / name, tone, *form).read_bytes()
        for name, form in FORMS.items()
    }


def read(path, data: bytes) -> None:
    path.write_bytes(data)
    said: list[str] = []
    with bounded(), contextlib.suppress(InputError):
        probe(path)
        heard = 0
        for piece in read_audio(path, warn=said.append):
            assert piece.dtype == np.float32 and np.isfinite(piece).all()
            heard += len(piece)
            if heard > HOURS:
                break
        assert heard < HOURS
    assert all(str(path) in sentence for sentence in said)


@pytest.mark.parametrize("kind", sorted(FORMS))
def test_damaged_media(kind, wholes, tmp_path):
    @many
    @given(data=damaged([wholes[kind]]))
    def case(data):
        read(tmp_path / kind, data)

    with frugal():
        case()


def test_damaged_wav_headers(wholes, tmp_path):
    """The sound behind the header stays as it is, so that a lie in the header is acted on."""

    @many
    @given(head=damaged([wholes["a.wav"][:60], wholes["f.wav"][:80]]))
    def case(head):
        read(tmp_path / "a.wav", head + wholes["a.wav"][60:])

    with frugal():
        case()
