"""The sound of a live session in a file, also of one whose process is killed."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from dragoman import errors
from dragoman.demos import cli
from dragoman.demos.recording import Recording
from dragoman.errors import InputError
from dragoman.pipeline.media import read_audio
from tests.demos.terminals import PROGRAM, ROOT
from tests.pipeline.fake_stages import tone

FORMS = ["wav", "flac"]


def played(path) -> np.ndarray:
    return np.concatenate(list(read_audio(path)))


@pytest.mark.parametrize("form", FORMS)
def test_it_has_the_sound_as_the_session_heard_it(form, tmp_path):
    sound, path = tone(20.6), tmp_path / f"talk.{form}"
    recording = Recording(path, print)
    heard = np.concatenate(list(recording.of(np.array_split(sound, 40))))
    recording.close()
    assert np.array_equal(heard, sound)
    assert np.abs(played(path) - sound).max() < 1e-4


@pytest.mark.parametrize("form", FORMS)
def test_who_is_killed_loses_a_second_at_most(form, tmp_path):
    path = tmp_path / f"talk.{form}"
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    asked = ["-", "--raw", "16000", "--json", "--record", path, "-o", tmp_path]
    process = subprocess.Popen(
        [*program, *map(str, asked)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    samples = (tone(31) * 32_767).astype("<i2").tobytes()
    process.stdin.write(samples)
    process.stdin.flush()
    heard_s = 0.0
    while heard_s < 4.5:
        heard_s = json.loads(process.stdout.readline())["end"]
    process.kill()
    process.communicate()
    assert len(played(path)) / 16_000 > heard_s - 1.2


def test_what_cannot_be_written_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot record"):
        Recording(tmp_path / "none" / "talk.flac", print)


def test_a_full_disk_ends_the_recording_and_not_the_session(tmp_path):
    path, warned = tmp_path / "talk.flac", list[str]()
    path.symlink_to("/dev/full")
    recording = Recording(path, warned.append)
    assert len(list(recording.of([tone(10)] * 30))) == 30
    recording.close()
    assert len(warned) == 1 and f"{path} records no more (No space left" in warned[0]


def test_a_disk_that_was_full_before_is_said_at_once(tmp_path):
    (tmp_path / "talk.wav").symlink_to("/dev/full")
    with pytest.raises(InputError, match="No space left"):
        Recording(tmp_path / "talk.wav", print)


def test_one_that_is_there_is_not_replaced_unasked(tmp_path, capsys):
    path = tmp_path / "talk.wav"
    path.write_bytes(b"mine")
    assert cli.main(["captions", "--record", str(path)]) == errors.USAGE
    assert "--overwrite" in capsys.readouterr().err and path.read_bytes() == b"mine"
