"""Every measurement runs end to end on a tiny checkpoint and gives the rows that it promised."""

import importlib.util
import json
import math

import pytest

from benchmarks import apart, crowd, memory, registry
from benchmarks.__main__ import run
from benchmarks.context import Bench
from benchmarks.rows import Measurement, Result, Row, Unavailable
from stages.messages import CHUNK_SAMPLES

APART = {
    "sessions_nano",
    "live_e2b_int8_graph",
    *(measurement.name for measurement in memory.MEASUREMENTS),
}
HERE = [m for m in registry.MEASUREMENTS if m.name not in APART]


@pytest.mark.parametrize("measurement", HERE, ids=lambda m: m.name)
def test_it_gives_its_rows(measurement, bench: Bench):
    if measurement.name.startswith("llama_cpp"):
        if importlib.util.find_spec("llama_cpp") is None:
            with pytest.raises(Unavailable, match="pip install llama-cpp-python"):
                list(measurement.run(bench))
        return
    found = list(measurement.run(bench))
    assert [result.row for result in found] == list(measurement.rows)
    for result in found:
        assert result.ours > 0 and result.ratio is not None and math.isfinite(result.ratio)
        json.dumps(result.detail)


def test_fresh_processes_report_their_memory(bench: Bench):
    found = {result.row.name: result for result in memory.memory(bench, "int4")}
    assert set(found) == {"memory_int4", "load_peak_int4", "cold_start_int4"}
    resident = found["memory_int4"]
    assert resident.ours < 3 and resident.theirs is not None
    assert resident.target == pytest.approx(resident.theirs / 3.0, abs=1e-3)
    assert found["load_peak_int4"].ours >= resident.ours - 1e-6
    assert 0 < found["cold_start_int4"].ours < 300


def test_a_process_with_a_quantized_audio_tower_reports_its_memory(bench: Bench):
    (found,) = memory.memory_with_audio(bench, "int4")
    assert found.row == memory.AUDIO_ROWS["int4"] and found.target is None
    assert 0 < found.ours < 3 and found.theirs is not None


def test_a_process_that_fails_says_why(bench: Bench, tmp_path):
    with pytest.raises(Unavailable, match="the process of dragoman failed: .*config.json"):
        memory.probe(tmp_path, "dragoman", "cpu")


def test_sessions_are_counted(bench: Bench, folder, monkeypatch):
    from pipeline.local import Local

    monkeypatch.setattr(crowd, "MOST_MS", 60_000)
    monkeypatch.setattr(crowd, "MOST_SKIPPED", 1.0)
    (found,) = crowd.sessions(bench, lambda: Local.start(str(folder), threads=1))
    assert found.row == crowd.SESSIONS and found.ours in (0, 4)
    assert set(found.detail["by_sessions"]) == {4}


def test_the_scripted_reply_goes_through_a_chain(bench: Bench):
    """All of the sound as one segment, and the words that the script has for so much of it."""
    from pipeline.local import Local

    found, chains = [], []

    def start(stages):
        chains.append(Local.start("tiny", stages=stages))
        found.append(apart.hear(chains[0], apart.sounds.noise(3)))
        return chains[0]

    (result,) = apart.keeps_up(bench, start)
    assert result.row == apart.APART and result.ours > 0
    *partials, final = found[0]
    assert partials and {caption.kind for caption in partials} == {"partial"}
    assert (final.kind, final.start, final.end) == ("final", 0, 19 * CHUNK_SAMPLES)
    assert final.transcript.whole and final.translation.whole


def test_a_crowd_is_carried_only_in_time_and_without_skipping():
    quick = crowd.Crowd([100.0] * 40, chunks=100)
    assert quick.carried
    assert not crowd.Crowd([100.0] * 30 + [900.0] * 10, chunks=100).carried
    assert not crowd.Crowd([100.0] * 40, chunks=100, skipped=6).carried
    assert not crowd.Crowd([100.0] * 40, chunks=100, errors=[ValueError()]).carried
    assert not crowd.Crowd([], chunks=100).carried


ROW = Row("decode_bf16", "a row", "tokens/s", higher=True)


def broken(_: Bench):
    yield Result(ROW, 5.0, 4.0)
    raise RuntimeError("no luck")


def absent(_: Bench):
    raise Unavailable("not here")


def test_one_failure_does_not_cost_the_other_rows(bench: Bench, tmp_path, capsys):
    other = registry.rows()["decode_int8"]
    fails = Measurement("fails", (ROW, other), broken)
    away = Measurement("away", (registry.rows()["decode_int4"],), absent)
    assert run(bench, [fails, away], tmp_path) is False
    found = json.loads((tmp_path / "benchmarks.json").read_text())
    assert found["decode_bf16"]["dragoman"] == 5.0
    assert found["decode_int8"]["missed"] == "failed: no luck"
    assert found["decode_int4"]["missed"] == "not here"
    assert "decode_int4" in capsys.readouterr().out
    assert set(found) == set(registry.rows())
    assert run(bench, [away], tmp_path) is True
    again = json.loads((tmp_path / "benchmarks.json").read_text())
    assert again["decode_bf16"]["dragoman"] == 5.0 and not again["decode_bf16"]["this_run"]


def test_too_little_memory_is_a_reason(bench: Bench, monkeypatch):
    from benchmarks import context

    monkeypatch.setattr(context, "available_bytes", lambda: 3e9)
    with pytest.raises(Unavailable, match="E4B wants 14 GB of memory, 3.0 GB are free"):
        Bench(bench.machine).folder("E4B")
