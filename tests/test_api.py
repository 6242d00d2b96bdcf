"""The Python API: sources of every form, many sessions over one model, errors that help."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import dragoman
from dragoman import errors
from dragoman.pipeline.media import read_audio
from dragoman.sources import open_source

TALK = Path(__file__).resolve().parents[1] / "samples" / "talk.wav"


@pytest.fixture(scope="module")
def captioner():
    with dragoman.Captioner() as captioner:
        yield captioner


@pytest.fixture(scope="module")
def talk() -> np.ndarray:
    """The first sentences of the sample, float32 at 16 kHz."""
    return np.concatenate(list(read_audio(TALK)))[: 8 * 16_000]


def texts(captions) -> list[tuple[str, str]]:
    finals = [caption for caption in captions if caption.kind == "final"]
    return [(caption.transcript.whole, caption.translation.whole) for caption in finals]


@pytest.fixture(scope="module")
def expected(captioner, talk):
    found = texts(captioner.caption(talk, pace="fast"))
    assert found and all(transcript and translation for transcript, translation in found)
    return found


def test_pieces_and_integers_give_what_the_array_gives(captioner, talk, expected):
    pieces = (talk[at : at + 1234] for at in range(0, len(talk), 1234))
    assert texts(captioner.caption(pieces, pace="fast")) == expected
    integers = (talk * 32_768).round().astype(np.int16)
    assert texts(captioner.caption(integers, pace="fast")) == expected


def test_another_rate_is_resampled(captioner, talk, expected):
    slow = np.interp(np.arange(0, len(talk), 0.5), np.arange(len(talk)), talk)
    found = texts(captioner.caption(slow, pace="fast", rate_hz=32_000))
    assert [transcript for transcript, _ in found] == [transcript for transcript, _ in expected]


def test_a_path_may_be_text(captioner):
    session = captioner.session(str(TALK), pace="fast")
    first = next(iter(session))
    assert first.kind == "partial" and first.segment == 0


def test_sessions_run_at_the_same_time(captioner, talk, expected):
    found: list = [None] * 3

    def run(at: int) -> None:
        found[at] = texts(captioner.caption(talk, pace="fast"))

    threads = [threading.Thread(target=run, args=(at,)) for at in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 3


def test_one_call_loads_and_gives_back(talk, expected):
    assert texts(dragoman.caption(talk, pace="fast")) == expected


def test_a_captioner_must_be_entered():
    with pytest.raises(RuntimeError, match="with Captioner"):
        dragoman.Captioner().session(TALK)


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ("no/such.wav", errors.InputError, "does not exist"),
        (np.zeros((2, 100), np.float32), ValueError, "one channel"),
        (np.zeros(100, np.int32), ValueError, "int16"),
        (3, errors.InputError, "cannot caption a int"),
    ],
)
def test_a_source_of_another_kind_is_explained(source, error, says):
    with pytest.raises(error, match=says):
        list(open_source(source, "es").pieces)


def test_a_language_that_the_model_does_not_know_is_explained(captioner):
    with pytest.raises(errors.LanguageError, match="unknown language 'xx'"):
        captioner.session(TALK, dragoman.Options(language="xx"))


def test_files_are_translated(tmp_path):
    results = dragoman.translate(TALK, output_dir=tmp_path, formats=["srt"], workers=1)
    assert [result.status for result in results] == ["done"]
    assert {path.name for path in results[0].outputs} == {
        "talk.es.srt", "talk.en.srt", "talk.es-en.srt"
    }  # fmt: skip
    assert dragoman.translate(TALK, output_dir=tmp_path, formats=["srt"])[0].status == "skipped"


def test_importing_it_imports_nothing_heavy():
    script = "import sys, dragoman; print({'torch', 'numpy', 'ray', 'av'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'translated'"):
        dragoman.translated  # noqa: B018
