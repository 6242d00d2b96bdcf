"""Ratios, fractions of limits, and what is published of them."""

import json
from dataclasses import replace

import pytest

from benchmarks import registry, report, results
from benchmarks.ours import FORMS
from benchmarks.results import Stamp, merge, met
from benchmarks.rows import Result, Row

FAST = Row("fast", "a speed", "tokens/s", higher=True, target=2.0, limit_target=0.8)
SHORT = Row("short", "a time", "ms", higher=False, peer="llama.cpp", target=10.0)
ROWS = {"fast": FAST, "short": SHORT}
OLD = Stamp("2026-01-01", "old, 2 cores", "old: reads 40 GB/s")
NEW = Stamp("2026-02-02", "new, 4 cores", "new: reads 90 GB/s")


def test_more_is_better():
    found = Result(FAST, ours=30.0, theirs=10.0, limit=40.0)
    assert found.ratio == 3.0 and found.limit_fraction == 0.75


def test_less_is_better():
    found = Result(SHORT, ours=20.0, theirs=300.0, limit=15.0)
    assert found.ratio == 15.0 and found.limit_fraction == 0.75


def test_no_figures_no_ratio():
    assert Result(FAST, ours=30.0).ratio is None
    assert Result(FAST, ours=30.0).limit_fraction is None
    assert Result(SHORT, ours=0.0, theirs=3.0).ratio is None


def test_a_target_is_met_where_ratio_and_limit_are():
    good = results.published(Result(FAST, 30.0, 10.0, 33.0), NEW)
    assert met(good) is True
    assert met(results.published(Result(FAST, 30.0, 10.0, 100.0), NEW)) is False
    assert met(results.published(Result(FAST, 30.0, 20.0, 33.0), NEW)) is False
    assert met(results.published(Result(replace(FAST, target=None), 30.0, 10.0), NEW)) is None
    assert met(results.unmeasured(FAST)) is None


def test_the_form_of_a_row():
    found = results.published(Result(FAST, 30.123456, 10.0, 40.0, rounds=7), NEW)
    assert found["dragoman"] == 30.12 and found["transformers"] == 10.0
    assert found["ratio"] == 3.012 and found["limit_fraction"] == 0.7531
    assert (found["target"], found["limit_target"]) == (2.0, 0.8)
    assert (found["unit"], found["rounds"], found["date"]) == ("tokens/s", 7, "2026-02-02")
    assert found["machine"] == "new, 4 cores" and found["this_run"] is True


def test_another_peer_has_its_own_key():
    found = results.published(Result(SHORT, 20.0, 300.0), NEW)
    assert found["peer"] == "llama.cpp" and found["llama.cpp"] == 300.0
    assert found["transformers"] is None and found["ratio"] == 15.0


def test_a_partial_run_keeps_the_other_rows():
    first = merge({}, ROWS, [Result(FAST, 30.0, 10.0), Result(SHORT, 20.0, 300.0)], {}, OLD)
    second = merge(first, ROWS, [Result(FAST, 60.0, 10.0)], {}, NEW)
    assert list(second) == ["fast", "short"]
    assert second["fast"]["dragoman"] == 60.0 and second["fast"]["date"] == NEW.date
    assert second["fast"]["this_run"] is True
    kept = {**first["short"], "this_run": False}
    assert second["short"] == kept and kept["date"] == OLD.date


def test_a_row_that_could_not_be_measured_says_why_and_keeps_its_figures():
    first = merge({}, ROWS, [Result(FAST, 30.0, 10.0)], {"short": "no llama"}, OLD)
    assert first["short"]["dragoman"] is None and first["short"]["missed"] == "no llama"
    second = merge(first, ROWS, [Result(SHORT, 20.0, 300.0)], {"fast": "no memory"}, NEW)
    assert second["fast"]["dragoman"] == 30.0 and second["fast"]["missed"] == "no memory"
    assert "missed" not in second["short"]
    third = merge(second, ROWS, [], {}, NEW)
    assert "missed" not in third["fast"] and third["fast"]["this_run"] is False
    assert merge(first, ROWS, [], {}, NEW)["short"]["missed"] == "no llama", "it has no figures yet"


def test_a_changed_target_counts_for_old_figures_too():
    first = merge({}, ROWS, [Result(FAST, 30.0, 10.0)], {}, OLD)
    raised = {"fast": replace(FAST, target=4.0)}
    assert merge(first, raised, [], {}, NEW)["fast"]["target"] == 4.0


def test_a_note_stands_by_a_missed_target_only(monkeypatch):
    monkeypatch.setitem(results.NOTES, "fast", "bound by this")
    missed = merge({}, ROWS, [Result(FAST, 15.0, 10.0, 16.0)], {}, OLD)
    assert missed["fast"]["note"] == "bound by this"
    reached = merge(missed, ROWS, [Result(FAST, 30.0, 10.0, 31.0)], {}, NEW)
    assert "note" not in reached["fast"]
    assert merge(missed, ROWS, [], {}, NEW)["fast"]["note"] == "bound by this"
    monkeypatch.delitem(results.NOTES, "fast")
    assert "note" not in merge(missed, ROWS, [], {}, NEW)["fast"]


def test_rows_that_are_gone_are_dropped():
    first = merge({}, ROWS, [Result(FAST, 30.0, 10.0)], {}, OLD)
    assert list(merge(first, {"short": SHORT}, [], {}, NEW)) == ["short"]


def test_every_target_has_a_row(tmp_path):
    results.write(tmp_path / "benchmarks.json", merge({}, registry.rows(), [], {}, NEW))
    found = json.loads((tmp_path / "benchmarks.json").read_text())
    targets = {
        "prefill_256_bf16": 2.0, "prefill_512_bf16": 2.0, "prefill_256_bf16_e4b": 2.3,
        "prefill_512_bf16_e4b": 2.3, "decode_bf16": 1.9, "decode_int8": 3.0, "decode_int4": 4.8,
        "first_token_after_5s": 10.0, "first_token_after_10s": 10.0, "first_token_after_28s": 10.0,
        "encoder_stream_30s": 0.5, "live_passes_nano": 3.0, "sessions_nano": 24.0,
        "live_e2b_int8": 1.0, "decode_bf12": 1.9, "encoder_stream_30s_bf12": 0.5,
        "decode_bf12_llama_cpp": 1.0, "prefill_512_bf12": None,
    }  # fmt: skip
    assert {name: found[name]["target"] for name in targets} == targets
    limits = {"decode_bf16": 0.8, "decode_bf12": 0.8, "decode_int8": 0.65, "decode_int4": 0.6}
    assert {name: found[name]["limit_target"] for name in limits} == limits
    assert {f"memory_{form}" for form in FORMS} <= set(found)
    assert {"load_peak_bf12", "cold_start_bf12", "live_e2b_bf12", "encoder_step_bf12"} <= set(found)


def test_damaged_figures_are_not_written_over(tmp_path):
    path = tmp_path / "benchmarks.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="is not JSON .*restore it or delete it"):
        results.read(path)
    path.write_text('["a row"]')
    with pytest.raises(ValueError, match="does not hold rows by name"):
        results.read(path)


def test_the_document_shows_every_row_and_marks_old_figures(tmp_path):
    row = registry.rows()["decode_bf16"]
    other = registry.rows()["prefill_512_bf16"]
    detail = {"profile": [("aten::mm", 0.9, 3)], "weights_gb": 4.8}
    old = merge({}, registry.rows(), [Result(other, 300.0, 100.0, 400.0)], {}, OLD)
    fresh = [Result(row, 8.0, 4.0, 9.0, detail=detail)]
    found = merge(old, registry.rows(), fresh, {"sessions_nano": "no Ray"}, NEW)
    text = report.markdown(found)
    for known in registry.rows().values():
        assert known.title in text
    assert "| 8 tokens/s | transformers: 4 | 2 | 1.9 | 89% (target 80%) | yes |" in text
    assert "2026-01-01 † |" in text and "2026-02-02 † |" not in text
    assert "no Ray" in text and "aten::mm 90% (3x)" in text and "weights gb 4.8" in text
    assert "new: reads 90 GB/s" in text and "old: reads 40 GB/s" in text
    pytest.importorskip("matplotlib")
    assert report.plot(found, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_measurements_and_groups_have_the_same_rows():
    run = {row.name for m in registry.MEASUREMENTS for row in m.rows}
    assert run == set(registry.rows())
    assert sum(len(m.rows) for m in registry.MEASUREMENTS) == len(run)


def test_choosing_measurements():
    assert [m.name for m in registry.select(["decode_int8"], quick=False)] == ["decode_int8"]
    assert [m.name for m in registry.select(["prefill_64_bf16"], quick=True)] == ["prefill"]
    assert all(not m.heavy for m in registry.select([], quick=True))
    assert any(m.heavy for m in registry.select([], quick=False))
    with pytest.raises(ValueError, match="no measurement or row decode_int3: --list shows"):
        registry.select(["decode_int3"], quick=False)


def test_notes_are_of_rows_that_exist():
    assert set(results.NOTES) <= set(registry.rows())
    assert not any(
        character.isdigit()
        for note in results.NOTES.values()
        for character in note.replace("bf16", "").replace("bf12", "")
    )
