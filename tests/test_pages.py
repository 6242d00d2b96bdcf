"""What docs/captions.md, docs/python.md and docs/demo.md show is run, by the bundled model."""

import json
import os

import pytest

from dragoman import errors
from dragoman.demos import cli
from dragoman.pipeline.pool import Pool
from dragoman.pipeline.recipes import recipes
from dragoman.pipeline.start import host, start
from dragoman.spec import ModelSpec
from tests import pages
from tests.pipeline import media_files

SPEC = ModelSpec(threads=1)
SPOKEN_S = 4.0


@pytest.fixture(scope="module")
def chain():
    """The model, loaded once for all commands and programs."""
    with start(SPEC, ray=False) as chain:
        stop, chain.stop = chain.stop, lambda: None
        yield chain
        stop()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the files that the pages name."""
    media_files.write(tmp_path / "talk.wav", media_files.speech(SPOKEN_S), "pcm_s16le")
    media_files.write(tmp_path / "talk.mp4", media_files.speech(SPOKEN_S), "aac", "mpeg4", 44_100)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", ["captions.md", "demo.md"])
def test_every_command_has_options_that_there_are(page):
    commands = pages.commands(page)
    assert len(commands) > 3
    for command in commands:
        pages.check(command)
    with pytest.raises(Exception, match="No such option"):
        pages.check([*commands[0], "--no-such-option"])


def test_captions_of_files_are_what_the_page_says(here, chain, monkeypatch, capsys):
    monkeypatch.setattr("dragoman.demos.captions.start", lambda request: chain)
    shown = pages.commands("captions.md")
    files = [c for c in shown if any(map(os.path.exists, c)) or c[0] == "finish"]
    assert len(files) > 6
    for command in files:
        assert cli.main(command) == errors.OK, (command, capsys.readouterr())
        said = capsys.readouterr().out
        if "--json" in command:
            events = [json.loads(line) for line in said.splitlines()]
            assert events and events[-1]["kind"] == "final"
    written = {path.relative_to(here).as_posix() for path in here.rglob("*.*")}
    assert {
        "out/talk.es.srt",
        "out/talk.en.vtt",
        "out/talk.json",
        "films/talk.en.ass",
        "films/talk.es.ttml",
        "films/talk.finished.en.vtt",
        "sure/talk.en.srt",
    } <= written


def test_every_program_prints_what_the_page_says(here, chain, monkeypatch, capsys):
    in_process = host(ray=False)
    pool = Pool.start(in_process, recipes(SPEC)[1:], 1)
    monkeypatch.setattr("dragoman.pipeline.start.start", lambda spec, ray: chain)
    monkeypatch.setattr("dragoman.pipeline.translate.host", lambda *_: in_process)
    monkeypatch.setattr("dragoman.pipeline.pool.Pool.start", lambda *_: pool)
    said = []
    for program in pages.programs("python.md"):
        exec(compile(program, "python.md", "exec"), {"__name__": "__main__"})
        said.append(capsys.readouterr().out)
    first, second, third, files, error = said
    count = first.count("|")
    assert count and second.split() == [str(count), "segments"] * 2
    assert "2.0 s heard" in third
    assert files.split()[0] == "done" and "talk.es-en.srt" in files
    assert "nobody.wav" in error and error.rstrip().endswith(f"exit code {errors.NO_INPUT}")
