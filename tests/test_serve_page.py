"""The commands and programs of docs/serve.md, run as they stand, on the bundled model."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest

from dragoman.pipeline.media import read_audio
from tests import pages
from tests.pipeline.test_knock import TOKEN, cluster  # noqa: F401
from tests.waiting import PATIENCE_S

SERVE = pages.lines("serve.md", "dragoman")
CURL = pages.lines("serve.md", "curl")
HERE = "http://localhost:8000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the files that the page names."""
    folder = tmp_path_factory.mktemp("talk")
    talk = pages.ROOT / "samples" / "talk.wav"
    (folder / "talk.wav").write_bytes(talk.read_bytes())
    samples = np.concatenate(list(read_audio(talk)))[: 6 * 16_000]
    at = np.arange(len(samples) * 3 // 2) * 2 / 3
    pcm = np.interp(at, np.arange(len(samples)), samples) * 32_767
    (folder / "talk.24k.pcm").write_bytes(pcm.astype("<i2").tobytes())
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        + ["-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@contextmanager
def running(command: str, folder: Path, **environment: str) -> Iterator[str]:
    """The address at which ``command`` serves, at any port; it ends as Ctrl-C ends it."""
    process = subprocess.Popen(
        f"{command.partition(' #')[0]} --port 0",
        shell=True,
        executable="/bin/bash",  # which becomes the command, and has its exit code
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(pages.ROOT),
            **environment,
        },
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"https?://[^/\s]+", process.stdout.readline())
        assert found is not None
        yield found[0]
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def url(folder):
    """The first command of the page, which answers all requests and programs."""
    with running(SERVE[0], folder) as url:
        yield url


@pytest.mark.parametrize("command", SERVE[1:])
def test_every_other_way_to_start_it_serves(command, folder, request):
    environment = {}
    if "--address auto" in command:
        command = command.replace("auto", request.getfixturevalue("cluster"))
        environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    with running(command, folder, **environment) as url:
        assert url.startswith("https://") == ("--ssl" in command)
        key = {"Authorization": "Bearer ..."}  # as the page has it
        found = httpx.get(f"{url}/v1/models", headers=key, verify=False).json()
        names = [model["id"] for model in found["data"]]
        assert names == ["nano", *(["whisper-1"] if "whisper-1" in command else [])]


@pytest.mark.parametrize("command", CURL)
def test_every_request_is_answered(command, folder, url):
    done = subprocess.run(
        shlex.split(command.replace(HERE, url)), cwd=folder, capture_output=True, text=True
    )
    expected = {"srt": " --> ", "stream": "transcript.text.done"}
    said = next((text for name, text in expected.items() if name in command), '"text":')
    assert said in done.stdout and "error" not in done.stdout, done


@pytest.mark.parametrize("program", pages.programs("serve.md"), ids=["files", "live"])
def test_every_program_prints_what_was_said(program, folder, url):
    done = subprocess.run(
        [sys.executable, "-c", program.replace(HERE, url)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and len(done.stdout.split()) > 5, done.stderr
