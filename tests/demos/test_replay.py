"""A session is shown again from its log: the same captions, in their time."""

import json
import time
from dataclasses import replace

import pytest

from dragoman.demos import cli
from dragoman.errors import NO_INPUT, OK
from dragoman.pipeline.events import of_event, to_json, warning
from dragoman.pipeline.lateness import Lateness
from dragoman.stages.messages import Caption, Text, VideoFrame

SECOND = 16_000


def caption(seq, end_s, committed, tail="", final=False, lag_ms=0):
    text = Text(committed, tail, (0.5,) * len((committed + tail).split()))
    return Caption(
        *("final" if final else "partial", 0, 0, round(end_s * SECOND), "es", "en"),
        *(text, replace(text), (VideoFrame(0.5, 12),)),
        latency={"partial_ms": lag_ms, "lag_ms": lag_ms},
        size="full",
        guards=("repetition",),
        session="one",
        seq=seq,
    )


CAPTIONS = [
    caption(0, 0.16, "", "la lluvia"),
    caption(1, 0.32, "la", " lluvia cae", lag_ms=200),
    caption(2, 0.48, "la lluvia cae.", final=True, lag_ms=320),
]


@pytest.fixture
def log(tmp_path):
    lateness = Lateness()
    lines = [to_json(lateness.note(caption)) for caption in CAPTIONS]
    lines.insert(1, warning("one", 0.3, "a worker process ended"))
    lines.append(json.dumps({"session": "one", "kind": "summary", **lateness.summary()}))
    path = tmp_path / "session.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_caption_of_an_event_is_the_one_that_it_was_made_of():
    lateness = Lateness()
    for made in map(lateness.note, CAPTIONS):
        again = of_event(json.loads(to_json(made)))
        assert again == made and to_json(again) == to_json(made)


@pytest.mark.parametrize("wrong", [{}, {"kind": "other"}, {"start": "x"}, {"transcript": None}])
def test_what_is_no_event_is_refused(wrong):
    event = CAPTIONS[0].to_event() | wrong if wrong else {"kind": "final"}
    with pytest.raises(ValueError):
        of_event(event)


def test_all_events_are_printed_again(log, capsys):
    assert cli.main(["replay", str(log), "--pace", "fast", "--json"]) == OK
    said = list(map(json.loads, capsys.readouterr().out.splitlines()))
    wanted = list(map(json.loads, log.read_text(encoding="utf-8").splitlines()))
    assert said == wanted


def test_people_see_what_they_saw_when_they_saw_it(log, capsys):
    begun = time.monotonic()
    assert cli.main(["replay", str(log)]) == OK
    assert time.monotonic() - begun >= 0.48 + 0.32, "its sound, and its lag"
    out, told = capsys.readouterr()
    assert out == "[0:00.0] la lluvia cae.\n         la lluvia cae.\n"
    assert "a worker process ended" in told and "half of the words" in told


def test_a_torn_last_line_is_left_out_and_another_one_named(log, capsys):
    text = log.read_text(encoding="utf-8")
    log.write_text(text + '{"kind": "par', encoding="utf-8")
    assert cli.main(["replay", str(log), "--pace", "fast"]) == OK
    log.write_text("no event\n" + text, encoding="utf-8")
    assert cli.main(["replay", str(log)]) == NO_INPUT
    assert "line 1" in capsys.readouterr().err


def test_a_log_without_captions_is_refused(tmp_path, capsys):
    for path in (tmp_path / "none", tmp_path / "empty"):
        (tmp_path / "empty").touch()
        assert cli.main(["replay", str(path)]) == NO_INPUT
    told = capsys.readouterr().err
    assert "cannot read" in told and "has no captions" in told
