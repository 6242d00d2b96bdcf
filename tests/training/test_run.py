import json
import random

import pytest
import torch

from dragoman.models.checkpoint import Checkpoint
from tests import nano_like
from tests.training.test_model import LONG, SHORT
from training.optimizing import optimizers
from training.run import Average, Progress, Run, export


class Training:
    """A model, its average and its optimizers, as `training.train` sets them up."""

    def __init__(self, tokenizer, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = nano_like.module(tokenizer)
        self.average = Average(self.model, 0.998)
        self.optimizers = optimizers(self.model, muon=True)

    def step(self, batch, number: int) -> None:
        self.model.losses(batch).total(0.5).backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.average.update(self.model, number)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        moments = {
            f"{place}.{i}.{name}": value
            for place, optimizer in enumerate(self.optimizers)
            for i, state in optimizer.state_dict()["state"].items()
            for name, value in state.items()
        }
        weights = {n: p.detach() for n, p in self.model.named_parameters()}
        return moments | weights | {f"average.{n}": t for n, t in self.average.weights.items()}


def assert_equal(a: Training, b: Training) -> None:
    ours, theirs = a.tensors, b.tensors
    assert set(ours) == set(theirs)
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different


@pytest.fixture
def batch(batcher):
    return batcher([SHORT, LONG], random.Random(0))


def test_a_resumed_run_goes_on_exactly(tokenizer, batch, tmp_path):
    run, first = Run(tmp_path / "run"), Training(tokenizer, seed=0)
    assert not run.exists
    for number in range(3):
        first.step(batch, number)
    saved = Progress(step=3, seconds=1 / 3, utterances=6, skipped=1)
    run.save(first.model, first.average, first.optimizers, saved)

    again = Run(tmp_path / "run")
    assert again.exists
    second = Training(tokenizer, seed=1)
    assert again.load(second.model, second.average, second.optimizers) == saved
    assert_equal(first, second)
    for training in (first, second):
        training.step(batch, 3)
    assert_equal(first, second)


def test_a_killed_save_costs_nothing(tokenizer, batch, tmp_path, monkeypatch):
    run, training = Run(tmp_path), Training(tokenizer, seed=0)
    training.step(batch, 0)
    run.save(training.model, training.average, training.optimizers, Progress(step=1))
    kept = {name: tensor.clone() for name, tensor in training.tensors.items()}
    training.step(batch, 1)
    with monkeypatch.context() as patch:
        patch.setattr("training.run.os.replace", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.save(training.model, training.average, training.optimizers, Progress(step=2))
    assert run.load(training.model, training.average, training.optimizers).step == 1
    assert all(torch.equal(kept[name], tensor) for name, tensor in training.tensors.items())


def test_saving_again_replaces(tokenizer, batch, tmp_path):
    run, training = Run(tmp_path), Training(tokenizer, seed=0)
    for number in (1, 2):
        training.step(batch, number)
        run.save(training.model, training.average, training.optimizers, Progress(step=number))
    assert run.load(training.model, training.average, training.optimizers).step == 2
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


def test_the_average_follows_quickly_at_first():
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    average = Average(module, decay=0.9)
    torch.nn.init.ones_(module.weight)
    average.update(module, step=0)
    assert average.weights["weight"].item() == pytest.approx(0.9)  # decay 1 / 10
    average.update(module, step=10_000)
    assert average.weights["weight"].item() == pytest.approx(0.9 + 0.1 * 0.1)  # decay 0.9
    torch.nn.init.zeros_(module.weight)
    assert average.weights["weight"].item() > 0.9, "a copy, not the weights themselves"


def test_the_log_is_one_object_a_line(tmp_path):
    run = Run(tmp_path)
    run.log(step=1, answer=2.5)
    Run(tmp_path).log(step=2)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 1, "answer": 2.5}, {"step": 2}]


def test_an_export_loads_and_holds_the_rounded_weights(tokenizer, tmp_path):
    weights = nano_like.weights(tokenizer, seed=0)
    path = export(weights, nano_like.config(tokenizer), tmp_path / "new" / "model")
    assert path.name == "model.safetensors"
    checkpoint = Checkpoint.open(str(path.parent))
    loaded = {
        "language_model": checkpoint.language_model(),
        "audio_tower": checkpoint.audio_encoder(),
        "embed_audio": checkpoint.embedder("audio"),
    }
    for group, module in loaded.items():
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, weights[f"{group}.{name}"].bfloat16().float())
    assert not [name for name in checkpoint.tensors if "letters" in name]
