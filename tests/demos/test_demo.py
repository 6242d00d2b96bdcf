"""`dragoman demo` as a command: its options, its port, its end."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from dragoman import errors
from dragoman.demos import browser, cli
from dragoman.stages.messages import SessionOptions
from tests.demos.browsers import fake_chain
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def local():
    yield from fake_chain()


def test_a_port_in_use_is_said_before_anything_is_loaded(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert cli.main(["demo", "--no-browser", "--port", str(port)]) == errors.FAILED
    said = capsys.readouterr().err
    assert f"127.0.0.1:{port}" in said and "--port" in said


@pytest.mark.parametrize(
    "args",
    [
        ["--language", "xx"],
        ["--target-language", "es"],
        ["--ssl-certfile", "cert.pem"],
        ["--ssl-certfile", "no.pem", "--ssl-keyfile", "no.pem"],
        ["--no-ray", "--address", "auto"],
    ],
)
def test_options_that_make_no_sense_are_refused(args, capsys):
    assert cli.main(["demo", "--no-browser", "--port", "0", *args]) == errors.USAGE
    assert capsys.readouterr().err


def test_the_options_of_the_command_reach_the_sessions(local, monkeypatch):
    asked = {}

    @contextmanager
    def serve(chain, options, *_):
        asked["options"] = options
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(browser, "start", lambda *_, **__: local)
    monkeypatch.setattr(browser, "serve", serve)
    monkeypatch.setattr(browser, "end_politely", lambda: None)
    options = ["--size", "half", "--draft-size", "full", "--pad-audio"]
    assert cli.main(["demo", "--port", "0", *options]) == errors.OK
    expected = SessionOptions(size="half", draft_size="full", pad_audio=True)
    assert asked["options"] == expected


def test_the_command_serves_until_it_is_interrupted_and_leaves_nothing(tiny_folder, tmp_path):
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "dragoman.demos.cli",
            "demo",
            "--no-ray",
            "--no-browser",
            "--port",
            "0",
        ]
        + ["--model", str(tiny_folder)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell runs in the background ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        url = re.search(r"http://\S+", process.stdout.readline())
        assert url is not None
        with urllib.request.urlopen(url[0], timeout=PATIENCE_S) as page:
            text = page.read().decode()
        assert "Dragoman" in text and "api/scripts/browser_page.js" in text
        assert list(tmp_path.glob("dragoman-*"))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert list(tmp_path.glob("dragoman-*")) == []
