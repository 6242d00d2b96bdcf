"""Captions as a log that simulstream reads: what it rebuilds is what was shown."""

import io
import json
from pathlib import Path

import pytest

from dragoman.errors import InputError
from dragoman.pipeline.logs import (
    LOGS,
    SimulevalLog,
    SimulstreamLog,
    check_log,
    evaluation,
    logged,
)
from dragoman.stages.messages import Caption, Text


def caption(kind, segment, end, committed, tail="", partial_ms=None):
    text = Text(committed, tail)
    latency = {} if partial_ms is None else {"partial_ms": partial_ms}
    return Caption(kind, segment, 0, end, "es", "en", text, text, latency=latency)


TALK = [
    caption("partial", 0, 16_000, "", "The house", 200),
    caption("partial", 0, 32_000, "The", " horse is", 250),
    caption("final", 0, 40_000, "The horse is white.", partial_ms=300),
    caption("partial", 2, 64_000, "", "And", 100),
    caption("final", 2, 80_000, "And it runs.", partial_ms=150),
]


def steps(**options):
    file = io.StringIO()
    log = SimulstreamLog(file, "talk.wav", **options)
    for one in TALK:
        log.write(one)
    return [json.loads(line) for line in file.getvalue().splitlines()]


def test_what_is_taken_back_is_deleted_from_the_end():
    metadata, first, second, third, fourth, fifth = steps()
    assert metadata == {"id": 0, "metadata": {"wav_name": "talk.wav"}}
    assert first["generated_tokens"] == ["The", "house"] and first["deleted_tokens"] == []
    assert second["deleted_tokens"] == ["house"]
    assert second["generated_tokens"] == ["horse", "is"]
    assert third["generated_tokens"] == ["white."]
    assert fourth["generated_tokens"] == ["And"] and fourth["deleted_tokens"] == []
    assert fifth["total_audio_processed"] == 5.0 and fifth["computation_time"] == 0.15


def test_committed_words_are_never_deleted():
    logged = steps(committed_only=True)[1:]
    assert all(step["deleted_tokens"] == [] for step in logged)
    generated = [word for step in logged for word in step["generated_tokens"]]
    assert " ".join(generated) == "The horse is white. And it runs."


def test_a_word_that_punctuation_joins_is_logged_anew():
    file = io.StringIO()
    log = SimulstreamLog(file, "talk.wav", committed_only=True)
    log.write(caption("partial", 0, 16_000, "It runs", " fast"))
    log.write(caption("final", 0, 32_000, "It runs."))
    last = json.loads(file.getvalue().splitlines()[-1])
    assert (last["deleted_tokens"], last["generated_tokens"]) == (["runs"], ["runs."])


def test_a_transcript_is_logged_like_a_translation():
    assert steps(which="transcript") == steps()


def test_simulstream_rebuilds_what_was_shown(tmp_path: Path):
    readers = pytest.importorskip("simulstream.metrics.readers")
    config = pytest.importorskip("simulstream.config")
    (tmp_path / "eval.yaml").write_text(evaluation("en"), encoding="utf-8")
    lines = "\n".join(json.dumps(step) for step in steps())
    (tmp_path / "log.jsonl").write_text(lines + "\n", encoding="utf-8")
    reader = readers.LogReader(
        config.yaml_config(str(tmp_path / "eval.yaml")), str(tmp_path / "log.jsonl")
    )
    (output,) = reader.final_outputs_and_latencies().values()
    assert output.final_text == "The horse is white. And it runs."
    assert output.ideal_delays == [1.0, 2.0, 2.0, 2.5, 4.0, 5.0, 5.0]
    assert output.computational_aware_delays[-1] == pytest.approx(5.15)
    assert reader.num_deleted_tokens() == 1


def test_without_spaces_letters_are_logged(tmp_path: Path):
    readers = pytest.importorskip("simulstream.metrics.readers")
    config = pytest.importorskip("simulstream.config")
    (tmp_path / "eval.yaml").write_text(evaluation("ja"), encoding="utf-8")
    with (tmp_path / "log.jsonl").open("w", encoding="utf-8") as file:
        log = SimulstreamLog(file, "talk.wav")
        log.write(caption("partial", 0, 16_000, "今日", "も雨"))
        log.write(caption("final", 0, 32_000, "今日は晴れです。"))
    reader = readers.LogReader(
        config.yaml_config(str(tmp_path / "eval.yaml")), str(tmp_path / "log.jsonl"), "char"
    )
    (output,) = reader.final_outputs_and_latencies().values()
    assert output.final_text == "今日は晴れです。"
    assert output.ideal_delays == [1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    assert reader.num_deleted_tokens() == 2


def test_simuleval_has_one_object_of_the_committed_words():
    file = io.StringIO()
    log = SimulevalLog(file, "talk.wav")
    for one in TALK:
        log.write(one)
    assert not file.getvalue(), "a talk is one object"
    log.end()
    said = json.loads(file.getvalue())
    assert said["prediction"] == "The house is white. And it runs.".replace("house", "horse")
    assert said["delays"] == [2_000] + [2_500] * 3 + [5_000] * 3
    assert said["elapsed"] == [2_250] + [2_800] * 3 + [5_150] * 3
    assert said["prediction_length"] == 7 and said["source_length"] == 5_000


@pytest.mark.parametrize("form", LOGS)
def test_a_log_is_written_while_the_session_runs(tmp_path, form):
    path = tmp_path / "log"
    with logged(path, form, "talk.wav") as note:
        assert [note(one) for one in TALK] == TALK
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) == {"events": 5, "simulstream": 6, "simuleval": 0}[form]
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == {"events": 6, "simulstream": 6, "simuleval": 1}[form]
    assert form != "events" or json.loads(lines[-1])["kind"] == "summary"
    with pytest.raises(InputError, match="there is such a file"):
        check_log(path)
    check_log(path, overwrite=True)
    with pytest.raises(InputError, match="there is no folder"):
        check_log(tmp_path / "none" / "log")


def test_without_a_name_there_is_no_log():
    check_log(None)
    with logged(None, "events", "talk.wav") as note:
        assert note(TALK[0]) is TALK[0]
