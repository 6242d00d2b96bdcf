"""The commands of docs/translate.md, run as they stand, one after another, by the bundled model."""

import shlex
import shutil
from pathlib import Path

import pytest

from dragoman import errors
from dragoman.demos import cli
from dragoman.pipeline.recipes import recipes
from dragoman.spec import ModelSpec
from tests.pipeline import media_files
from tests.pipeline.batches import ray_of_our_own
from tests.pipeline.chains import pool_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "translate.md"
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("    dragoman ")
]


@pytest.mark.ray
@pytest.mark.slow
def test_every_command_does_what_the_page_says(tmp_path, monkeypatch, capsys):
    media_files.write(tmp_path / "talk.mp4", media_files.speech(), "aac", "mpeg4", 44_100)
    (tmp_path / "lectures").mkdir()
    shutil.copy(media_files.SPOKEN, tmp_path / "lectures" / "talk.wav")
    monkeypatch.chdir(tmp_path)
    with ray_of_our_own(cpus=2):
        pool = pool_of(recipes(ModelSpec(threads=1))[1:], workers=1)
        monkeypatch.setattr("dragoman.pipeline.pool.Pool.start", lambda *_: pool)
        monkeypatch.setattr(pool, "stop", lambda: None)
        for command in COMMANDS:
            assert cli.main(command) == errors.OK, (command, capsys.readouterr().err)
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert {
        "talk.es.srt",
        "talk.es-en.vtt",
        "talk.json",
        "out/talk.en.srt",
        "texts/talk.en.ass",
        "texts/talk.en.ttml",
        "both/talk.es-en.vtt",
        "both/talk.en-es.vtt",
        "films/talk.subtitled.mp4",
        "films/talk.en.burnt.mp4",
        "slow/talk.en.srt",
    } <= written
    assert not any(name.startswith("texts/talk.es") for name in written)
