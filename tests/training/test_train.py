"""The whole command, on a tiny model and a little noise: it trains, stops, goes on and exports."""

import itertools
import json

import pytest
import torch
from safetensors import safe_open

from dragoman.models.checkpoint import Checkpoint
from tests.training.corpus_like import write_speech, write_text
from training import nano, progress
from training import train as training
from training.export import export_run
from training.run import Progress

TINY = nano.Shape(
    audio_width=32, audio_blocks=1, audio_channels=(8, 4), width=64, layers=7, shared=2, ffn=32
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    return write_speech(folder / "speech"), write_text(folder / "text")


@pytest.fixture
def command(folders, tmp_path, monkeypatch):
    """Runs the command for some minutes, with more arguments, in a folder of its own."""
    monkeypatch.setattr(nano, "TEXT_VOCAB", 640)
    monkeypatch.setattr(nano, "SHAPE", TINY)
    monkeypatch.setattr(training, "VOCABULARY_DRAWS", 20)
    monkeypatch.setattr(progress, "ANSWERED", 1)
    monkeypatch.setattr(progress, "LONGEST", 8)
    ticks = itertools.count()
    monkeypatch.setattr(training, "clock", lambda device: next(ticks) * 0.5)  # so long is a step

    def run(minutes: float, *more: str, name: str = "run") -> list[dict]:
        folder = tmp_path / name
        given = {
            "corpus": folders[0], "text": folders[1], "run": folder, "out": tmp_path / "out",
            "minutes": minutes, "seconds": 6, "rows": 4, "processes": 1,
        }  # fmt: skip
        argv = [f"--{key}={value}" for key, value in given.items()]
        training.main([*argv, "--no-compile", *more])
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    yield run
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def stood(folder) -> Progress:
    with safe_open(folder / "state.safetensors", framework="pt") as file:
        return Progress(**{k: json.loads(v) for k, v in file.metadata().items()})


def test_a_run_goes_through_its_phases_and_exports(command, tmp_path):
    log = command(0.25, "--hearing=0.3", "--reading=0.6")
    seen = [line["phase"] for line in log if "phase" in line]
    assert list(dict.fromkeys(seen)) == ["hearing", "reading", "together"]
    heard = [line for line in log if "letters" in line]
    assert all(line["answer"] == 0 for line in heard if line["phase"] == "hearing")
    assert all(line["letters"] == 0 for line in heard if line["phase"] == "reading")
    assert any("reads" in line for line in log), "text alone is trained as well"
    (dev,) = [line for line in log if line.get("split") == "dev"]
    assert set(dev["spelling"]) == set(dev["wer"]) == set(dev["chrf"]) == {*nano.LANGUAGES}
    export_run(tmp_path / "run", tmp_path / "exported")
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        exported = (tmp_path / "exported" / name).read_bytes()
        assert exported == (tmp_path / "out" / name).read_bytes(), name
    checkpoint = Checkpoint.open(str(tmp_path / "out"))
    assert checkpoint.language_model() and checkpoint.audio_encoder()


def test_a_run_goes_on_where_it_stood(command, tmp_path):
    command(0.05)
    first = stood(tmp_path / "run")
    log = command(0.1)
    second = stood(tmp_path / "run")
    steps = [line["step"] for line in log if "rate" in line]
    assert steps == sorted(set(steps)), "no step is taken twice"
    assert second.step > first.step > 0
    assert first.seconds >= 1.8 and second.seconds >= 3.6
    assert second.utterances > first.utterances


def test_a_run_starts_from_another_model(command, tmp_path):
    command(0.02, name="earlier")
    command(0.0, f"--from={tmp_path / 'earlier'}", "--blocks=2", name="later")
    tokenizers = [(tmp_path / n / "tokenizer.json").read_bytes() for n in ("earlier", "later")]
    assert tokenizers[0] == tokenizers[1]
    with (
        safe_open(tmp_path / "earlier" / "state.safetensors", framework="pt") as before,
        safe_open(tmp_path / "later" / "state.safetensors", framework="pt") as after,
    ):
        name = "audio_tower.conformer.0.ffw_layer_start.ffw_layer_1.weight"
        assert torch.equal(
            before.get_tensor("average." + name), after.get_tensor("weights." + name)
        )
        assert "weights.audio_tower.conformer.1.norm.weight" in after.keys()  # noqa: SIM118


def test_two_processes_take_the_same_steps(command, tmp_path):
    log = command(0.1, "--processes=2", "--hearing=0.0", "--reading=0.0")
    assert max(line["step"] for line in log if "rate" in line) >= 5
    assert stood(tmp_path / "run").skipped == 0
