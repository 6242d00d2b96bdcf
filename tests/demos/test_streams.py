"""`dragoman captions` of an address or of standard input: real processes, stages of no model."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from dragoman import errors
from dragoman.demos import cli
from tests.pipeline import media_files
from tests.pipeline.fake_stages import tone
from tests.pipeline.test_streams import Sender
from tests.waiting import PATIENCE_S

PROGRAM = """
    import sys
    from dragoman.demos import captions, cli
    from tests.pipeline.chains import in_process
    from tests.pipeline.fake_stages import fakes
    captions.start = lambda request: in_process(fakes())
    sys.exit(cli.main(["captions", *sys.argv[1:]]))
"""


def start(*args) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), *map(str, args)],
        cwd=media_files.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def document(folder: Path) -> dict:
    (path,) = folder.glob("captions-*.json")
    return json.loads(path.read_text())


def test_standard_input_is_captioned_to_its_end_and_saved(tmp_path):
    samples = (tone(12) * 32_767).astype("<i2").tobytes()
    process = start("-", "--raw", "16000", "--json", "-o", tmp_path)
    out, err = process.communicate(samples, timeout=PATIENCE_S)
    assert process.returncode == 0, err.decode()
    events = [json.loads(line) for line in out.splitlines()]
    finals = [event for event in events if event["kind"] == "final"]
    assert [event["start"] for event in finals] == [0.0, 0.8, 1.6]
    saved = document(tmp_path)
    assert saved["source"] == "standard input" and saved["warnings"] == []
    assert len(saved["segments"]) == 3
    assert len(list(tmp_path.glob("captions-*.srt"))) == 2


def test_a_stream_that_stays_away_leaves_its_captions_and_says_so(tmp_path):
    media = media_files.write(tmp_path / "live.ts", np.tile(tone(1), 60), "mp2", rate=48_000)
    sender = Sender(media)
    try:
        process = start(sender.url, "--reconnect", "2", "--json", "-o", tmp_path)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(7)]
        sender.kill()
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        sender.kill()
    assert process.returncode == errors.NO_INPUT, err.decode()
    events = [json.loads(line) for line in [*lines, *out.splitlines()]]
    warned = [event["message"] for event in events if event["kind"] == "warning"]
    assert len(warned) == 1 and "broke off at" in warned[0]
    assert "has given no sound for 2 s" in err.decode() and "Traceback" not in err.decode()
    saved = document(tmp_path)
    assert saved["segments"] and "silence stands for what is missing" in " ".join(saved["warnings"])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-", "--microphone", "usb"], "a file or a stream and --microphone"),
        (["talk.wav", "--raw", "16000"], "--raw is for a stream"),
        (["talk.wav", "--duration", "3"], "--duration ends a live session"),
    ],
)
def test_what_does_not_go_together_is_refused(args, said, capsys):
    assert cli.main(["captions", *args]) == errors.USAGE
    assert said in capsys.readouterr().err
