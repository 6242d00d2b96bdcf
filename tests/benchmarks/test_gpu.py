"""The run on a GPU, rehearsed on the CPU with a tiny model."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, gpu_checks, gpu_rows, results
from benchmarks.checkpoint import SIZES
from benchmarks.gpu_models import Card
from benchmarks.registry import rows
from benchmarks.rows import Result, Unavailable

ROOT = Path(__file__).resolve().parents[2]
ABSENT = (
    "ray",
    "av",
    "gradio",
    "webrtcvad",
    "sounddevice",
    "pysubs2",
    "llvmlite",
    "torchaudio",
    "librosa",
    "soundfile",
    "torchao",
    "typer",
)


def test_the_whole_run_is_written_and_can_be_published(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    wanted = ["--device", "cpu", "--size", "tiny", "--out", "run/gpu.json", "--seconds", "600"]
    gpu.main(wanted)
    found = json.loads((tmp_path / "run" / "gpu.json").read_text(encoding="utf-8"))
    assert [check["name"] for check in found["checks"]] == list(gpu_checks.PARTS)
    assert all(check["fine"] for check in found["checks"])
    assert list(found["rows"]) == [row.name for row in gpu_rows.ROWS]
    assert all(row["dragoman"] > 0 for row in found["rows"].values())
    assert capsys.readouterr().out.startswith("the code of the GPU's part was never run on a GPU")

    before = {name: results.unmeasured(row) for name, row in rows().items()}
    before["decode_bf16"] |= {"dragoman": 9.0, "this_run": True, "date": "2026-01-01"}
    before["decode_bf16"] |= {"limits": "a machine"}
    results.write(tmp_path / "docs" / "benchmarks.json", before)
    gpu.main(["--publish", "run/gpu.json", "--docs", "docs"])
    published = results.read(tmp_path / "docs" / "benchmarks.json")
    assert published["decode_bf16"] == before["decode_bf16"]
    assert published["gpu_memory"] == found["rows"]["gpu_memory"]
    assert "## On a GPU" in (tmp_path / "docs" / "benchmarks.md").read_text(encoding="utf-8")


def test_what_is_no_run_is_not_published(tmp_path):
    (tmp_path / "gpu.json").write_text('{"rows": {"decode_bf16": {}}}', encoding="utf-8")
    with pytest.raises(ValueError, match="has the rows .'decode_bf16'., expected some of"):
        gpu.publish(tmp_path / "gpu.json", tmp_path)


def test_a_part_that_differs_or_fails_is_told_and_does_not_end_the_others(folder, monkeypatch):
    sides = iter([torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.01])])

    def fails(*_) -> torch.Tensor:
        raise RuntimeError("no kernel")

    parts = {"fails": fails, "other": lambda _: next(sides), "same": lambda _: torch.ones(3)}
    monkeypatch.setattr(gpu_checks, "PARTS", {name: (work, True) for name, work in parts.items()})
    failed, differs, same = gpu_checks.checks(folder, "cpu", parts)
    assert not failed.fine and failed.error.endswith("RuntimeError: no kernel")
    assert not differs.fine and differs.difference == pytest.approx(0.005, rel=1e-3)
    assert same.fine and same.difference == 0


def test_a_row_that_fails_or_comes_too_late_is_told_and_the_others_go_on(monkeypatch):
    def fails(_: gpu_rows.Sides):
        raise RuntimeError("no kernel")

    def works(sides: gpu_rows.Sides):
        yield Result(gpu_rows.MEMORY, 1.0)

    card = Card("cpu", True, SIZES["tiny"], {})
    monkeypatch.setattr(gpu_rows, "WORK", {gpu_rows.STEP: fails, gpu_rows.MEMORY: works})
    missed, result = gpu_rows.measured(card)
    assert isinstance(missed, gpu_rows.Missed)
    assert missed.row is gpu_rows.STEP and missed.reason.endswith("RuntimeError: no kernel")
    assert result == Result(gpu_rows.MEMORY, 1.0)
    late = list(gpu_rows.measured(card, until=time.monotonic() - 1))
    assert late == [gpu_rows.Missed(row, "no time was left") for row in gpu_rows.WORK]


def test_it_needs_nothing_that_a_bare_machine_lacks():
    script = f"import sys; sys.modules.update(dict.fromkeys({ABSENT})); import benchmarks.gpu"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_a_gpu_the_rows_are_not_measured(bench):
    with pytest.raises(Unavailable, match="no GPU was at hand"):
        next(iter(gpu_rows.gpu(replace(bench, small=False))))
