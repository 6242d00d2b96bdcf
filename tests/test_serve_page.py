"""The commands and programs of docs/serve.md, run as they stand, on the bundled model."""

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dragoman.captioner import Captioner
from dragoman.pipeline.media import read_audio
from tests import pages
from tests.server.servers import served

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
    return folder


@pytest.fixture(scope="module")
def url():
    with Captioner() as captioner, served(captioner) as url:
        yield url


@pytest.mark.parametrize("command", pages.commands("serve.md"), ids=" ".join)
def test_every_way_to_start_it_is_one_that_the_command_knows(command):
    pages.check(command)


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
