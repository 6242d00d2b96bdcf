"""The commands of docs/translate.md, run as they stand, one after another, by the bundled model."""

import pytest

from dragoman import errors
from dragoman.demos import cli
from dragoman.pipeline.pool import Pool
from dragoman.pipeline.recipes import recipes
from dragoman.pipeline.start import host, start
from dragoman.spec import ModelSpec
from tests import pages
from tests.pipeline import media_files


@pytest.mark.slow
def test_every_command_does_what_the_page_says(tmp_path, monkeypatch, capsys):
    media_files.write(tmp_path / "talk.mp4", media_files.speech(), "aac", "mpeg4", 44_100)
    (tmp_path / "lectures").mkdir()
    media_files.write(tmp_path / "lectures" / "talk.wav", media_files.speech(), "pcm_s16le")
    monkeypatch.chdir(tmp_path)
    here = host(ray=False)  # and the model is loaded once for all commands
    pool = Pool.start(here, recipes(ModelSpec(threads=1))[1:], 1)
    monkeypatch.setattr("dragoman.pipeline.translate.host", lambda *_: here)
    monkeypatch.setattr("dragoman.pipeline.pool.Pool.start", lambda *_: pool)
    monkeypatch.setattr("dragoman.demos.captions.start", lambda asked: start(asked.spec, ray=False))
    stop = pool.stop
    monkeypatch.setattr(pool, "stop", lambda: None)
    for command in pages.commands("translate.md"):
        assert cli.main(command) == errors.OK, (command, capsys.readouterr())
    stop()
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
        "live/talk.es.srt",
        "live/talk.finished.en.ass",
        "live/talk.finished.en.srt",
        "slow/talk.en.srt",
    } <= written
    assert not any(name.startswith("texts/talk.es") for name in written)
