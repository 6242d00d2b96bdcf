"""Every measurement runs end to end on a tiny checkpoint and gives the rows that it promised."""

import json
import math
from pathlib import Path

import pytest

from benchmarks import apart, crowd, llama, memory, registry, serve
from benchmarks.__main__ import run
from benchmarks.context import Bench
from benchmarks.ours import FORMS
from benchmarks.rows import Measurement, Result, Row, Unavailable
from dragoman.stages.messages import CHUNK_SAMPLES

APART = {
    "sessions_nano",
    "live_e2b_int8_graph",
    *(measurement.name for measurement in memory.MEASUREMENTS),
    *(measurement.name for measurement in llama.MEASUREMENTS.values()),
    *(measurement.name for measurement in serve.MEASUREMENTS),  # in `test_serve.py`, in short
}
HERE = [m for m in registry.MEASUREMENTS if m.name not in APART]


@pytest.mark.parametrize("measurement", HERE, ids=lambda m: m.name)
def test_it_gives_its_rows(measurement, bench: Bench):
    found = list(measurement.run(bench))
    assert [result.row for result in found] == list(measurement.rows)
    for result in found:
        assert result.ours > 0 and result.ratio is not None and math.isfinite(result.ratio)
        assert result.limit is None or result.detail["reads_gb_s"] > 0
        json.dumps(result.detail)


@pytest.fixture
def no_llama(monkeypatch):
    """A llama.cpp that does nothing, and needs no file; it notes what it was asked to open."""
    opened = []

    class Nothing:
        def __init__(self, path: Path) -> None:
            opened.append(path)

        def read(self, ids: list[int]) -> None:
            pass

        steps = read

    monkeypatch.setattr(llama, "Llama", Nothing)
    monkeypatch.setattr(llama, "installed", lambda: True)
    monkeypatch.setattr(Bench, "gguf", lambda self, size, form: Path(f"{size}-{form}"))
    return opened


@pytest.mark.parametrize("form", FORMS)
def test_llama_cpp_gives_its_rows(form, bench: Bench, no_llama):
    found = list(llama.MEASUREMENTS[form].run(bench))
    assert [result.row for result in found] == list(llama.MEASUREMENTS[form].rows)
    assert no_llama == [Path(f"E2B-{form}")]
    assert found[0].ours > 0 and found[0].limit_fraction and "reads_gb_s" in found[0].detail


def test_without_llama_cpp_its_rows_say_so(bench: Bench, monkeypatch):
    monkeypatch.setattr(llama, "installed", lambda: False)
    with pytest.raises(Unavailable, match="pip install llama-cpp-python"):
        list(llama.MEASUREMENTS["bf12"].run(bench))


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
    from dragoman.pipeline.start import start
    from dragoman.spec import ModelSpec

    monkeypatch.setattr(crowd, "MOST_MS", 60_000)
    monkeypatch.setattr(crowd, "MOST_SKIPPED", 1.0)
    (found,) = crowd.sessions(bench, lambda: start(ModelSpec(str(folder), threads=1), ray=False))
    assert found.row == crowd.SESSIONS and found.ours in (0, 4)
    assert set(found.detail["by_sessions"]) == {4}


def test_the_scripted_reply_goes_through_a_chain(bench: Bench):
    """All of the sound as one segment, and the words that the script has for so much of it."""
    from tests.pipeline.chains import in_process

    found, chains = [], []

    def start(stages):
        chains.append(in_process(stages))
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
