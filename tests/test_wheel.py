"""An installed wheel works in an empty folder, and in one whose folders are called as ours are."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = (
    "import dragoman; [print(c) for c in dragoman.caption({talk!r}, pace='fast')]; "
    "print(dragoman.__file__)"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what git tracks, so that nothing else can get into it."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    subprocess.run(
        ["tar", "--null", "-cf", "-", "-T", "-"], cwd=ROOT, input=tracked, check=True,
        stdout=(copy / "tree.tar").open("wb"),
    )  # fmt: skip
    subprocess.run(["tar", "-xf", "tree.tar"], cwd=copy, check=True)
    command = [
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
    ]
    subprocess.run([sys.executable, *command, str(out), str(copy)], check=True)
    return next(out.glob("dragoman-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel is installed to; its libraries are those of this environment."""
    target = tmp_path_factory.mktemp("site")
    command = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([sys.executable, *command, str(target), str(wheel)], check=True)
    return target


def run(installed: Path, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, *args],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def test_it_holds_the_model_and_nothing_beside_one_name(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"dragoman"}
    needed = {"models/nano/model.safetensors", "py.typed", "server/viewer.html", "server/viewer.js"}
    assert {f"dragoman/{name}" for name in needed} <= set(names)
    assert not any("test" in name for name in names)


def test_five_lines_run_in_an_empty_folder(installed, tmp_path):
    talk = str(ROOT / "samples" / "talk.wav")
    done = run(installed, tmp_path, "-c", SCRIPT.format(talk=talk))
    *captions, file = done.stdout.splitlines()
    assert Path(file).is_relative_to(installed), done.stderr
    assert len(captions) > 8 and done.returncode == 0


def test_folders_called_as_ours_are_harm_nothing(installed, tmp_path):
    """Ray's workers look into the working directory, too."""
    for name in ("models", "pipeline", "stages", "encoders", "decoder", "demos", "server"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('the wrong folder')")
    talk = str(ROOT / "samples" / "talk.wav")
    command = ["-m", "dragoman.demos.cli", "captions", talk, "--pace", "fast", "--json"]
    done = run(installed, tmp_path, *command)
    assert done.returncode == 0, done.stderr
    assert '"kind": "final"' in done.stdout
