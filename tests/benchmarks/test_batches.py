"""What `benchmarks.batches` makes its files of, and what it tells about a run."""

import wave

import pytest

from benchmarks.batches import Run, make_files
from dragoman.data import Translator


def test_every_file_is_a_sentence(tmp_path):
    seconds = make_files(tmp_path, 10)
    assert len(list(tmp_path.iterdir())) == 10
    found = 0.0
    for path in tmp_path.iterdir():
        with wave.open(str(path)) as file:
            found += file.getnframes() / file.getframerate()
        assert len(Translator.segments({"path": str(path)})) == 1
    assert found == pytest.approx(seconds)


def test_waits_count_from_the_kill():
    run = Run(came_s=[2.0, 3.0, 9.0, 9.5], killed_s=4.0)
    assert run.told(95.0) == {
        "files": 4, "first_s": 2.0, "longest_wait_s": 5.0, "all_s": 9.5, "speed": 10.0
    }  # fmt: skip
    run.killed_s = 9.5
    assert run.told(95.0)["longest_wait_s"] == 0.0
