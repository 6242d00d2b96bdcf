"""`dragoman serve` as a command: its options, its key, its end."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest

from dragoman import errors
from dragoman.demos import cli
from dragoman.demos.serve import KEY, read_key

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--language", "xx"], "unknown language"),
        (["--target-language", "es"], "es"),
        (["--host", "0.0.0.0"], "--api-key-file"),
        (["--api-key-file", "none.txt"], "check the name"),
        (["--ssl-certfile", "cert.pem"], "--ssl-keyfile"),
        (["--no-ray", "--address", "auto"], "--address"),
        (["--max-sessions", "0"], "--max-sessions"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_loaded(
    args, says, capsys, monkeypatch
):
    monkeypatch.delenv(KEY, raising=False)
    assert cli.main(["serve", "--port", "0", *args]) == errors.USAGE
    assert says in capsys.readouterr().err


def test_the_key_is_that_of_the_file_else_of_the_environment(tmp_path, monkeypatch):
    file = tmp_path / "key.txt"
    file.write_text("of the file\n")
    monkeypatch.setenv(KEY, "of the environment")
    assert read_key(None, "0.0.0.0") == "of the environment"
    assert read_key(file, "192.0.2.1") == "of the file"
    monkeypatch.delenv(KEY)
    assert [read_key(None, host) for host in ("127.0.0.1", "::1", "localhost")] == [None] * 3
    file.write_text("\n")
    with pytest.raises(errors.UsageError, match="is empty"):
        read_key(file, "127.0.0.1")
    for key in ("schl\u00fcssel", "two\nlines"):  # no header brings these
        file.write_text(key, encoding="utf-8")
        with pytest.raises(errors.UsageError, match="in one line"):
            read_key(file, "127.0.0.1")


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("ray", "ending"), [(False, signal.SIGTERM), (False, signal.SIGHUP), (True, signal.SIGTERM)]
)
def test_the_command_serves_until_it_is_ended_and_leaves_nothing(
    ray, ending, tiny_folder, tmp_path
):
    room = {"RAY_TMPDIR": tempfile.gettempdir()}  # a socket's path is short
    process = subprocess.Popen(
        [sys.executable, "-m", "dragoman.demos.cli", "serve", "--port", "0"]
        + ([] if ray else ["--no-ray"])
        + ["--model", str(tiny_folder), "--served-model-name", "whisper-1"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1", KEY: "a key", **room},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = re.search(r"http://[^/\s]+", process.stdout.readline())
        assert url is not None
        assert httpx.get(f"{url[0]}/health").json()["status"] == "ok"
        assert httpx.get(f"{url[0]}/v1/models").status_code == 401
        models = httpx.get(f"{url[0]}/v1/models", headers={"Authorization": "Bearer a key"}).json()
        assert [model["id"] for model in models["data"]] == [tiny_folder.name, "whisper-1"]
        assert list(tmp_path.glob("dragoman-serve-*"))
        process.send_signal(ending)
        _, err = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "Traceback" not in err and "SIG" not in err
    assert list(tmp_path.glob("dragoman-*")) == []
