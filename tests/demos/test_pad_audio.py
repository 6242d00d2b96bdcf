"""`--pad-audio` reaches the stages, from both commands, in both spellings; it is off by default."""

import pytest

from dragoman import errors
from dragoman.demos import captions as command
from dragoman.demos import cli
from dragoman.pipeline.chain import Chain
from tests.demos.test_cli import write_wav
from tests.pipeline.chains import in_process
from tests.pipeline.fake_stages import fakes

SPELLINGS = [
    ([], False),
    (["--pad-audio"], True),
    (["--pad_audio"], True),
    (["--no-pad-audio"], False),
]


@pytest.mark.parametrize(("args", "expected"), SPELLINGS)
def test_captions(args, expected, tmp_path, monkeypatch):
    seen, open_ = [], Chain.open

    def spy(self, session, options):
        seen.append(options.pad_audio)
        return open_(self, session, options)

    monkeypatch.setattr(Chain, "open", spy)
    monkeypatch.setattr(command, "start", lambda request: in_process(fakes()))
    talk = write_wav(tmp_path / "talk.wav", 1)
    assert cli.main(["captions", "--file", str(talk), "--pace", "fast", *args]) == errors.OK
    assert seen[-1] is expected  # the warm-up comes before


@pytest.mark.parametrize(("args", "expected"), SPELLINGS)
def test_translate(args, expected, tmp_path, monkeypatch):
    seen = []

    def run(paths, output_dir, options, *rest, **named):
        seen.append(options.session.pad_audio)
        return errors.OK

    monkeypatch.setattr("dragoman.demos.translate.run", run)
    assert cli.main(["translate", str(tmp_path), *args]) == errors.OK
    assert seen == [expected]
