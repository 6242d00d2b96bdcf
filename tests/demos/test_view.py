"""The view of live captions in a real terminal: keys, sizes, large letters, and how it ends."""

import json
import os
import signal

import pytest

from dragoman import errors
from dragoman.demos import cli
from dragoman.demos.terminal import fitted
from tests.demos.terminals import terminal
from tests.demos.test_cli import write_wav
from tests.pipeline.fake_stages import POISON
from tests.waiting import eventually


@pytest.fixture(scope="module")
def minute(tmp_path_factory):
    return write_wav(tmp_path_factory.mktemp("view") / "minute.wav", 60)


def test_keys_pause_mark_and_end(minute, tmp_path):
    with terminal(minute, "-o", tmp_path) as shown:
        shown.until("space pause")
        assert shown.gives_keys
        shown.until("0:01.")
        shown.press(" ")
        at = shown.until("paused")
        shown.press("m")
        at = shown.until("marked 0:", at)
        shown.press("P")
        shown.until("lag", at)
        shown.press("xq")
        assert shown.end() == errors.OK
    form = json.loads((tmp_path / "minute.json").read_text())
    (mark,) = form["marks"]
    assert 0 < mark <= form["duration"] < 60 and "ended by a key" in form["warnings"][0]


def test_a_file_waits_in_a_pause(minute, tmp_path):
    """Nothing of it is lost, and it does not hurry afterwards."""
    with terminal(minute, "-o", tmp_path) as shown:
        shown.until("0:02.")
        shown.press(" ")
        at = shown.until("paused")
        shown.press("m")
        shown.until("marked", at)
        shown.press("q")
        assert shown.end() == errors.OK
    form = json.loads((tmp_path / "minute.json").read_text())
    assert form["duration"] == pytest.approx(form["marks"][0], abs=0.17)


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGHUP"])
def test_the_terminal_is_as_it_was_however_it_ends(how, minute):
    with terminal(minute) as shown:
        eventually(lambda: shown.gives_keys)
        shown.until("space pause")
        if how == "Ctrl-C":
            shown.press("\x03")
        else:
            shown.process.send_signal(signal.Signals[how])
        number = signal.SIGINT if how == "Ctrl-C" else signal.Signals[how]
        assert shown.end() == 128 + number


def test_an_error_in_the_session_leaves_the_terminal_as_it_was(tmp_path):
    with terminal(write_wav(tmp_path / "poison.wav", 3, POISON)) as shown:
        assert shown.end() == errors.FAILED
        assert "poison" in shown.text and "Traceback" not in shown.text


def test_it_may_be_stopped_and_continued(minute):
    """Whoever has the terminal meanwhile sets it as it likes."""
    with terminal(minute) as shown:
        shown.until("space pause")
        shown.process.send_signal(signal.SIGSTOP)
        shown.reset()
        assert not shown.gives_keys
        shown.process.send_signal(signal.SIGCONT)
        eventually(lambda: shown.gives_keys)
        shown.press("q")
        assert shown.end() == errors.OK


def test_large_letters_fill_the_screen_and_switch_to_the_transcript(minute):
    with terminal(minute, "--big") as shown:
        at = shown.until("\x1b[?1049h")
        eventually(lambda: shown.text.count("█", at) > 50)
        shown.press("t")
        shown.press("q")
        assert shown.end() == errors.OK
        assert "\x1b[?1049l" in shown.text


def test_a_window_that_gets_small_keeps_the_newest_words(minute):
    with terminal(minute) as shown:
        shown.until("space pause")
        shown.resize(30, 5)
        shown.process.send_signal(signal.SIGWINCH)
        at = len(shown.text)
        eventually(lambda: shown.text.count("lag", at) > 3)
        shown.press("q")
        assert shown.end() == errors.OK


def test_without_colours_nothing_is_coloured(minute):
    with terminal(minute, NO_COLOR="1") as shown:
        shown.until("space pause")
        shown.press("q")
        assert shown.end() == errors.OK
        assert "\x1b[90m" not in shown.text and "\x1b[36m" not in shown.text
        assert "\x1b[2;3m" in shown.text  # the tail


def test_what_is_piped_on_is_plain_lines_and_leaves_the_keys_alone(minute):
    reader, writer = os.pipe()
    with terminal(minute, out=writer) as shown, os.fdopen(reader) as lines:
        os.close(writer)
        assert lines.readline().startswith("[0:00.0] ")
        assert shown.mode() == shown.before
        shown.press("\x03")
        rest = lines.read()
        assert shown.end() == errors.INTERRUPTED
        assert "\x1b" not in rest


def test_a_status_line_leaves_out_what_has_no_room():
    parts = ["0:12.4", "lag 0.3 s", "es → en", "nano"]
    assert fitted(parts, 80) == "0:12.4   lag 0.3 s   es → en   nano"
    assert fitted(parts, 33) == "0:12.4  lag 0.3 s  es → en  nano"
    assert fitted(parts, 20) == "0:12.4   lag 0.3 s"
    assert fitted(parts, 3) == "0:12.4"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["talk.wav", "--big", "--json"], "--big is for a screen"),
        (["talk.wav", "--record", "talk.mp3"], "name a .wav or a .flac"),
    ],
)
def test_what_cannot_be_is_refused(args, said, capsys):
    assert cli.main(["captions", *args]) == errors.USAGE
    assert said in capsys.readouterr().err
