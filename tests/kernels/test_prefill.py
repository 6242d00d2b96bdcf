"""Prompts of bf16 through our code for the CPU, against the same passes by torch."""

import copy
import dataclasses

import pytest
import torch

from dragoman.decoder import LanguageModel, Slice
from dragoman.decoder.quantize import QuantizedLinear, Scheme, quantize
from dragoman.kernels import accelerate, gates
from tests.decoder.helpers import CONFIG, random_model
from tests.parts import layer

WIDE = dataclasses.replace(
    CONFIG,
    hidden_size=256,
    head_dim=32,
    intermediate_size=2048,
    sliding_window=24,
    activation_sparsity_pattern=(0.95,) * 3 + (0.0,) * 7,
)


@pytest.fixture(scope="module")
def wide() -> LanguageModel:
    model = random_model(WIDE)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "embed" not in name:
            parameter.mul_(2 / parameter.shape[1] ** 0.5)  # as if trained: no layer explodes
    return model.bfloat16()


@pytest.fixture(scope="module")
def prompt() -> torch.Tensor:
    return torch.randint(0, 200, (1, 70), generator=torch.Generator().manual_seed(4))


def passes(model: LanguageModel, ids: torch.Tensor, size: Slice | None = None) -> torch.Tensor:
    """Logits [11, V] of a prompt in two pieces, then of ten ids more."""
    cache = model.new_cache(1, 16, size)
    model.extend(model.embed(ids[:, :45]), ids[:, :45], cache)
    last = model.prefill(model.embed(ids[:, 45:60]), ids[:, 45:60], cache)
    return torch.cat([last, model.verify(ids[:, 60:], cache)[0]])


@pytest.mark.parametrize("size", [None, Slice.cut(WIDE, widths=1024, skip=(6,))])
def test_a_prompt_is_answered_as_by_its_definition(wide, prompt, size):
    exact = passes(copy.deepcopy(wide).float(), prompt, size)
    fast = passes(accelerate(copy.deepcopy(wide)), prompt, size)
    slow = passes(wide, prompt, size)
    missed, usual = ((logits - exact).square().mean() for logits in (fast, slow))
    assert usual < 0.02 * exact.var()
    assert missed < 1.5 * usual


def test_sparse_layers_run_our_code(wide, prompt, monkeypatch):
    seen = []

    def layers(*args, original=gates.sparse_part):
        seen.append(original(*args))
        return True

    monkeypatch.setattr(gates, "sparse_part", layers)
    passes(accelerate(copy.deepcopy(wide)), prompt)
    assert seen == [True] * 9  # in three passes


def test_long_prompts_of_12_bits_are_those_of_16(wide, prompt, monkeypatch):
    """Weights are unpacked for them, and closed gates are not multiplied either."""
    packed = quantize(copy.deepcopy(wide), Scheme("bf12", "bf12"))
    assert isinstance(layer(packed, 0).mlp.up_proj, QuantizedLinear)
    ids, answers, sparse = prompt[:, :45], [], []

    def part(*args, original=gates.sparse_part):
        sparse.append(original(*args))
        return sparse[-1]

    monkeypatch.setattr(gates, "sparse_part", part)
    for model in (accelerate(copy.deepcopy(wide)), accelerate(packed)):
        cache = model.new_cache(1, 16)
        model.extend(model.embed(ids), ids, cache)
        answers.append(torch.stack([torch.stack(cache.buffers(i)) for i in cache.plan.owners]))
    assert sparse == [True] * 6
    assert torch.equal(*answers)
