"""What `accelerate` replaces, what it leaves alone, and how it is switched off."""

import copy
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from dragoman import kernels
from dragoman.decoder import LanguageModel
from dragoman.encoders import AudioEncoder
from dragoman.kernels import SWITCH, accelerate, available
from dragoman.kernels.modules import QUICK
from tests.decoder.helpers import CONFIG, randomize
from tests.encoders.helpers import noise, tiny_encoder


def language_model() -> LanguageModel:
    model = LanguageModel(CONFIG).eval()
    randomize(model)
    return model


@pytest.fixture(params=[language_model, tiny_encoder], ids=["decoder", "encoder"])
def model(request) -> LanguageModel | AudioEncoder:
    return request.param()


def test_names_weights_and_kinds_stay(model):
    before = {name: p.data_ptr() for name, p in model.named_parameters()}
    kinds = [type(module) for module in model.modules()]
    assert accelerate(model) is model
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == before
    for module, kind in zip(model.modules(), kinds, strict=True):
        assert type(module) is QUICK.get(kind, kind) and isinstance(module, kind)
    assert type(model) in QUICK.values()


def test_twice_is_once(model):
    kinds = [type(module) for module in accelerate(model).modules()]
    assert [type(module) for module in accelerate(model).modules()] == kinds


def test_every_quick_class_has_the_methods_of_its_definition():
    """A method that was renamed in the definition would no longer be overridden."""
    for kind, quick in QUICK.items():
        own = {name for name in vars(quick) if not name.startswith("__")} - {"begin"}
        replaced = {name for name in own if hasattr(kind, name)}
        assert replaced, quick


def test_float64_is_the_definition_to_the_bit():
    model = language_model().double()
    ids = torch.arange(3, 40)[None]
    expected = model.verify(ids, model.new_cache())
    assert torch.equal(accelerate(model).verify(ids, model.new_cache()), expected)
    encoder, mel = tiny_encoder().double(), noise(1, 90, 16).double()
    with torch.no_grad():
        expected = encoder(mel)
        assert torch.equal(accelerate(encoder)(mel), expected)


def test_gradients_are_those_of_the_definition():
    ids = torch.arange(3, 40)[None]
    plain = language_model()
    quick = accelerate(copy.deepcopy(plain))
    for model in (plain, quick):
        model(model.embed(ids), ids).square().mean().backward()
    for (name, a), b in zip(plain.named_parameters(), quick.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None and torch.equal(a.grad, b.grad), name


def test_switched_off_nothing_happens(model, monkeypatch):
    monkeypatch.setenv(SWITCH, "off")
    assert not available()
    kinds = [type(module) for module in model.modules()]
    assert [type(module) for module in accelerate(model).modules()] == kinds


def test_weights_elsewhere_are_left_alone():
    with torch.device("meta"):
        model = LanguageModel(CONFIG)
    assert type(accelerate(model)) is LanguageModel


def answer(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class OnACard(torch.nn.Linear):
    """Its weights say that they are on a GPU."""

    def parameters(self, recurse: bool = True):
        yield SimpleNamespace(is_cuda=True, dtype=torch.float32)


def test_on_a_gpu_it_is_said_once_that_none_was_at_hand(caplog):
    kernels._say_untried.cache_clear()
    for _ in range(3):
        accelerate(OnACard(1, 1))
    (record,) = caplog.records
    assert "never run on one by those who wrote it: `python -m benchmarks.gpu`" in record.message


def test_without_a_compiler_nothing_happens():
    script = """
import sys
sys.modules["llvmlite"] = None
from torch import nn
from dragoman.decoder.layers import Linear
from dragoman.kernels import accelerate, available
print(available(), type(accelerate(Linear(4, 4))) is Linear)
"""
    assert answer(script) == "False True"


def test_the_compiler_is_imported_when_it_is_needed():
    script = "from dragoman import decoder, encoders, kernels; print('llvmlite' in sys.modules)"
    assert answer(f"import sys; {script}") == "False"
