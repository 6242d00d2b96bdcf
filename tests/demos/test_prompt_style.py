"""`--prompt-style` reaches the sessions of every command; a file is checked before."""

import pytest

import dragoman
from dragoman import Options, errors
from dragoman.demos import cli

MINE = "Write {language}, then {target_language}."


@pytest.fixture
def asked(monkeypatch):
    """The sessions' options that a command asks for, which nothing runs."""
    seen = []

    def captions(options):
        seen.append(options.session)
        return errors.OK

    def translate(paths, output_dir, options, *rest, **named):
        seen.append(options.session)
        return errors.OK

    def session_options(spec, prompt_style, **_):
        seen.append(Options(prompt_style=prompt_style))
        raise KeyboardInterrupt

    monkeypatch.setattr("dragoman.demos.captions.run", captions)
    monkeypatch.setattr("dragoman.demos.translate.run", translate)
    monkeypatch.setattr("dragoman.demos.browser.session_options", session_options)
    return seen


@pytest.mark.parametrize("command", [["captions"], ["translate", "."], ["demo", "--port", "0"]])
def test_every_command_has_the_option(command, asked, tmp_path, capsys):
    mine = tmp_path / "mine.txt"
    mine.write_text(MINE + "\n", encoding="utf-8")
    for style in ([], ["--prompt-style", "long"], ["--prompt_style", str(mine)]):
        cli.main([*command, *style])
    assert [options.prompt_style for options in asked] == ["short", "long", MINE]
    mine.write_text("Write {languages}.", encoding="utf-8")
    assert cli.main([*command, "--prompt-style", str(mine)]) == errors.USAGE
    assert "mine.txt: unknown placeholders {languages}" in capsys.readouterr().err
    assert cli.main([*command, "--prompt-style", "lang"]) == errors.USAGE
    assert "prompt style lang: No such file or directory" in capsys.readouterr().err


def test_python_takes_a_name_a_file_or_the_instruction_itself(tmp_path, monkeypatch):
    seen = []

    def work(paths, options, *rest, **named):
        seen.append(options.session.prompt_style)
        yield from ()

    monkeypatch.setattr("dragoman.pipeline.translate.translate", work)
    mine = tmp_path / "mine.txt"
    mine.write_text(MINE, encoding="utf-8")
    for said in ("long", str(mine), MINE):
        dragoman.translate("talk.wav", Options(prompt_style=said))
    assert seen == ["long", MINE, MINE]
    with pytest.raises(errors.UsageError, match="the instruction: missing placeholders {language}"):
        dragoman.translate("talk.wav", Options(prompt_style="Into {target_language}"))
