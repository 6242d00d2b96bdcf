"""`dragoman finish` on the log of a session, with and without its sound."""

import json
from dataclasses import replace

import pytest

from dragoman import errors
from dragoman.demos import captions as captions_command
from dragoman.demos import cli
from dragoman.stages.messages import Text
from tests.pipeline import media_files
from tests.pipeline.chains import in_process
from tests.pipeline.fake_stages import CountingCaptions, Making, fakes, tone


class Mishearing(CountingCaptions):
    """A live session that heard another first word."""

    def step(self, item, state):
        captions, state = super().step(item, state)
        heard = [c.transcript.committed.replace("w0", "x0") for c in captions]
        return [
            replace(c, transcript=Text(text, c.transcript.tail))
            for c, text in zip(captions, heard, strict=True)
        ], state


@pytest.fixture
def session(tmp_path, monkeypatch, capsys):
    """The document of a session, and the recording that it heard."""
    talk = media_files.write(tmp_path / "talk.wav", tone(10), "pcm_s16le")
    live = (*fakes()[:2], replace(fakes()[2], make=Making(Mishearing())))
    monkeypatch.setattr(captions_command, "start", lambda _: in_process(live))
    assert cli.main(["captions", "--pace=fast", str(talk), "-o", str(tmp_path)]) == errors.OK
    capsys.readouterr()
    monkeypatch.setattr("dragoman.pipeline.recipes.recipes", lambda _: fakes())
    return tmp_path / "talk.json", talk


@pytest.fixture
def finish(capsys):
    def run(*args):
        code = cli.main(["finish", *map(str, args)])
        return code, *capsys.readouterr()

    return run


def test_a_log_becomes_files_by_the_rules_in_any_format(finish, session, tmp_path):
    log, _ = session
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, out, err = finish(log, "-o", tmp_path / "out", "-f", "ass,json", "--text", "translation")
    assert (code, out) == (errors.OK, ""), "nothing was heard a second time"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"talk.finished.en.ass", "talk.finished.json"}
    assert err.split() == [str(tmp_path / "out" / name) for name in sorted(names)]
    document = json.loads((tmp_path / "out" / "talk.finished.json").read_text())
    assert document == json.loads(log.read_text())
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert cli.main(["check", str(tmp_path / "out" / "talk.finished.en.ass")]) == errors.OK


def test_a_second_reading_tells_what_it_changed(finish, session, tmp_path):
    log, talk = session
    form = json.loads(log.read_text())
    log.write_text(json.dumps(form | {"options": form["options"] | {"size": "half"}}))
    code, out, _ = finish(log, "--audio", talk, "-f", "txt,json", "--text", "transcript")
    assert code == errors.OK
    assert json.loads((tmp_path / "talk.finished.json").read_text())["options"]["size"] == ""
    assert out.splitlines() == [
        "[0:00.0] - x0 w1 w2 w3 w4",
        "         + w0 w1 w2 w3 w4",
        "[0:00.8] - x0 w1 w2 w3 w4",
        "         + w0 w1 w2 w3 w4",
        "transcript: 2 of 10 words of the live text have changed",
        "translation: 0 of 10 words of the live text have changed",
    ]
    assert (tmp_path / "talk.finished.es.txt").read_text().count("w0") == 2
    code, out, _ = finish(log, "--audio", talk, "--overwrite", "--json")
    form = json.loads(out)
    assert form["transcript"] == {"words": 10, "changed": 2}
    assert form["changes"][1] == {
        "start": 0.8, "text": "transcript", "live": "x0 w1 w2 w3 w4", "final": "w0 w1 w2 w3 w4"
    }  # fmt: skip
    assert all(path.endswith(("srt", "vtt", "json")) for path in form["outputs"])


def test_what_is_finished_again_keeps_to_the_cuts_that_its_document_names(
    finish, session, tmp_path
):
    log, talk = session
    form = json.loads(log.read_text())
    log.write_text(json.dumps(form | {"shot_changes": [1.75]}))
    for also in ((), ("--audio", talk)):
        assert finish(log, *also, "-f", "srt,json", "--overwrite")[0] == errors.OK
        written = json.loads((tmp_path / "talk.finished.json").read_text())
        assert written["shot_changes"] == [1.75]
        text = (tmp_path / "talk.finished.es.srt").read_text()
        assert "--> 00:00:02,250" in text, "12 frames after the cut, as it ended 1 before it"


def test_the_document_says_what_was_wrong_with_the_sound(finish, session, tmp_path):
    log, talk = session
    form = json.loads(log.read_text())
    unsure = [one | {"transcript_confidence": [0.1] * 5} for one in form["segments"]]
    lost = "a stretch of sound was lost"
    told = "2 of 2 segments are not in the subtitles, as their mean confidence is under 0.5: "
    told += "--min-confidence 0 shows them"
    options = form["options"] | {"min_confidence": 0.5}
    new = {"segments": unsure, "warnings": [lost, told], "options": options}
    log.write_text(json.dumps(form | new))
    media_files.write(talk, tone(8), "pcm_s16le")
    code, out, err = finish(log, "--audio", talk, "-f", "json")
    short = "the sound ends before 1 of 2 segments do: these stay as they were heard live"
    assert code == errors.OK and short in err and out.count("+ w0") == 1
    written = json.loads((tmp_path / "talk.finished.json").read_text())["warnings"]
    assert written == [lost, short, told.replace("2 of 2", "1 of 2")]


def test_what_cannot_be_finished_says_so(finish, session, tmp_path):
    log, talk = session
    assert finish(log)[0] == errors.OK
    code, _, err = finish(log)
    assert code == errors.NO_INPUT and "talk.finished.es.srt is there already" in err
    assert "--context is for a second reading" in finish(log, "--context")[2]
    other = tmp_path / "other.json"
    for text in ("{}", "[1]", "no json", '{"options": {"language": "es"}, "segments": 3}'):
        other.write_text(text)
        code, _, err = finish(other)
        assert code == errors.NO_INPUT and "is no document of captions or translate" in err
    code, _, err = finish(tmp_path / "none.json")
    assert code == errors.NO_INPUT and "cannot be read" in err
    form = json.loads(log.read_text())
    for key in ("source", "model", "duration", "warnings"):
        other.write_text(json.dumps({name: form[name] for name in form if name != key}))
        assert f"is no document of captions or translate (KeyError: '{key}')" in finish(other)[2]
    for also in ((), ("--audio", talk)):
        code, _, err = finish(log, *also, "-o", talk)
        assert code == errors.FAILED and "(it is a file): choose a folder with -o" in err
    other.write_text(json.dumps(form | {"options": form["options"] | {"new": 1}}))
    assert "options of another version" in finish(other)[2]
