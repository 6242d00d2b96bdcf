"""How a session ends by a signal: real processes, real signals, and what is on disk then."""

import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from dragoman import errors
from tests.demos.test_cli import ROOT, write_wav
from tests.pipeline.fake_stages import CHUNKS_A_SEGMENT
from tests.waiting import PATIENCE_S


class Going:
    """`dragoman captions` of a minute of sound, in a process of its own, in its second segment."""

    def __init__(self, folder: Path, hangup: str = "SIG_DFL") -> None:
        talk = write_wav(folder / "long.wav", 60)
        script = f"""
            import signal, sys
            signal.signal(signal.SIGHUP, signal.{hangup})
            from dragoman.demos import captions, cli
            from tests.pipeline.chains import in_process
            from tests.pipeline.fake_stages import fakes
            captions.start = lambda request: in_process(fakes())
            args = ["captions", "--file", {str(talk)!r}, "--json", "-o", {str(folder)!r}]
            sys.exit(cli.main(args))
        """
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        for _ in range(CHUNKS_A_SEGMENT + 1):
            line = self.process.stdout.readline()
        assert json.loads(line)["segment"] == 1

    def end(self, number: signal.Signals) -> tuple[str, str]:
        self.process.send_signal(number)
        begin = time.monotonic()
        out, err = self.process.communicate(timeout=PATIENCE_S)
        assert time.monotonic() - begin < 30  # of a minute of sound
        return out, err


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_cleanly_and_saves(name, tmp_path):
    """The code, the files, and the last words."""
    going, number = Going(tmp_path), signal.Signals[name]
    out, err = going.end(number)
    assert going.process.returncode == 128 + number and err == ""
    assert json.loads(out.splitlines()[-1])["kind"] == "final"
    form = json.loads((tmp_path / "long.json").read_text())
    assert [segment["start"] for segment in form["segments"]] == [0.0, 0.8]
    assert "ended by" in form["warnings"][0]
    assert not list(tmp_path.glob("*unfinished*"))


def test_a_closed_terminal_is_ignored_under_nohup(tmp_path):
    going = Going(tmp_path, "SIG_IGN")
    going.process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        going.process.wait(timeout=0.5)
    going.end(signal.SIGINT)
    assert going.process.returncode == errors.INTERRUPTED


def test_what_was_final_survives_a_kill(tmp_path):
    going = Going(tmp_path)
    going.end(signal.SIGKILL)
    form = json.loads((tmp_path / "long.unfinished.json").read_text())
    assert [segment["start"] for segment in form["segments"]] == [0.0]
    assert "going on" in form["warnings"][0]
    assert (tmp_path / "long.unfinished.es.srt").is_file()
