from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import wave
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from dragoman.demos.loading import bar
from dragoman.demos.options import Dtype
from dragoman.errors import CheckpointError
from dragoman.models.checkpoint import Checkpoint
from dragoman.pipeline import start as starting
from dragoman.pipeline.start import locate, read_ahead, start
from dragoman.spec import ModelSpec
from tests.models.hub_server import Hub
from tests.models.test_hub import environment
from tests.pipeline.test_lane import bursts
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def folder(tiny_folder, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.fixture
def hub(folder):
    with Hub({"google/tiny": folder}).serving() as made:
        yield made


def dragoman(hub: Hub, home: Path, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dragoman.demos.cli", *map(str, args)],
        cwd=ROOT,
        env=environment(home, HF_ENDPOINT=hub.url),
        capture_output=True,
        text=True,
    )


@pytest.fixture
def talk(tmp_path) -> Path:
    """Three seconds, of which a detector takes one for speech."""
    path = tmp_path / "talk.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((bursts()[48_000:] * 32_767).astype(np.int16).tobytes())
    return path


@pytest.mark.slow
def test_a_model_of_the_hub_makes_captions(hub, talk, tmp_path):
    done = dragoman(
        hub, tmp_path, "captions", "--file", talk, "--model", "google/tiny", "--dtype", "bf16",
        "--no-ray", "--pace", "fast", "--json", "-o", tmp_path / "out",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["size"] for event in events} == {"full"}
    assert json.loads((tmp_path / "out" / "talk.json").read_text())["model"] == "tiny"


@pytest.mark.ray
def test_a_model_of_the_hub_makes_subtitles(hub, talk, tmp_path):
    """The workers of a batch are told the folder: nobody asks the hub again."""
    ask = ("translate", talk, "-o", tmp_path / "out", "--model", "google/tiny", "--workers", 1)
    done = dragoman(hub, tmp_path, *ask, "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "out" / "talk.json").read_text())["model"] == "tiny"
    assert (
        len([path for path in hub.asked if path.endswith("/revision/main")]) == 3
    )  # by the driver
    again = json.loads(dragoman(hub, tmp_path, *ask, "--json").stdout)
    assert again["skipped"] == 1  # the same weights
    other = json.loads(dragoman(hub, tmp_path, *ask, "--json", "--dtype", "bf16").stdout)
    assert other["skipped"] == 0


def test_languages_of_a_model_of_the_hub_are_checked_before_its_weights_come(hub, talk, tmp_path):
    ask = ("captions", talk, "--model", "google/tiny", "--language", "de")
    done = dragoman(hub, tmp_path, *ask)
    assert (done.returncode, done.stdout) == (2, "")
    assert "google/tiny does not translate de to en, only es to en" in done.stderr
    assert hub.downloaded() == ["config.json"]


@pytest.mark.parametrize("command", [["captions", "--file"], ["translate"]])
def test_a_model_that_is_nowhere_is_one_line(hub, talk, tmp_path, command):
    done = dragoman(hub, tmp_path, *command, talk, "--model", "google/nothing")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("dragoman: no model 'google/nothing'")
    assert done.stderr.count("\n") == 1


def test_an_unknown_dtype_is_a_usage_error(hub, tmp_path):
    done = dragoman(hub, tmp_path, "captions", "--file", "x.wav", "--dtype", "int2")
    assert done.returncode == 2 and "'int2' is not one of 'auto', 'float32'" in done.stderr


def test_the_options_are_the_forms_there_are(tiny_folder):
    checkpoint = Checkpoint.open(str(tiny_folder))
    forms = get_args(get_args(Dtype)[0])
    assert forms[0] == "auto"
    assert all(checkpoint.dtype(form) for form in forms)


def test_what_stages_are_told_to_load(folder):
    here, cluster = ModelSpec(str(folder)), ModelSpec(str(folder), address="auto")
    assert locate(ModelSpec("nano")) == ModelSpec("nano")
    assert locate(here) == here
    # A node of a cluster looks for itself; what is here is checked here.
    elsewhere = ModelSpec("google/tiny", address="auto")
    assert locate(elsewhere) == elsewhere
    assert locate(cluster) == cluster
    (folder / "model.safetensors").write_bytes(b"{}")
    with pytest.raises(CheckpointError, match="is damaged"):
        locate(cluster)


def test_a_folder_is_checked_before_any_process_starts(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="the weights are missing"):
        start(ModelSpec(str(folder)))


def test_weights_are_read_while_the_body_runs(folder, monkeypatch):
    monkeypatch.setattr(starting, "READ_BYTES", 1)
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    whole, told = threading.Event(), []

    def told_of(done: int, total: int) -> None:
        told.append(done)
        if done == total:
            whole.set()

    def both(progress):
        def at(done: int, total: int) -> None:
            progress(done, total)
            told_of(done, total)

        return at

    read = starting.reading.read_ahead
    monkeypatch.setattr(
        starting.reading,
        "read_ahead",
        lambda wanted, progress, stopped: read(wanted, both(progress), stopped),
    )
    with read_ahead(ModelSpec(str(folder)), bar):
        assert whole.wait(PATIENCE_S)
    assert "reading model" in screen.getvalue()
    assert told[-1] < (folder / "model.safetensors").stat().st_size  # without the table
    assert "read-ahead" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("screen, progress", [(Terminal(), None), (io.StringIO(), bar)])
def test_no_bar_where_nobody_wants_one(folder, monkeypatch, screen, progress):
    monkeypatch.setattr(starting, "READ_BYTES", 1)
    monkeypatch.setattr(sys, "stderr", screen)
    with read_ahead(ModelSpec(str(folder)), progress):
        pass
    assert screen.getvalue() == ""


def test_a_small_model_and_one_elsewhere_are_not_read_ahead(monkeypatch, tiny_folder):
    monkeypatch.setattr(starting.reading, "read_ahead", None)
    for model in ("nano", str(tiny_folder), "google/tiny"):
        with read_ahead(ModelSpec(model)):
            pass


def test_reading_ends_with_the_body(folder, monkeypatch):
    """Also where the body fails, or a file has gone."""
    monkeypatch.setattr(starting, "READ_BYTES", 1)
    wanted = starting.reading.tensors(folder)
    monkeypatch.setattr(starting.reading, "tensors", lambda folder: wanted)
    os.unlink(folder / "model.safetensors")
    with pytest.raises(KeyError), read_ahead(ModelSpec(str(folder))):
        raise KeyError
    assert "read-ahead" not in {thread.name for thread in threading.enumerate()}
