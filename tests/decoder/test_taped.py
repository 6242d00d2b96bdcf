"""Passes that are one call against the same by `decoder.layers`, in bf16, int8 and int4."""

import copy
import dataclasses

import pytest
import torch

from decoder import LanguageModel, Slice, greedy, taped
from decoder.quantize import Scheme, quantize
from tests.decoder.helpers import CONFIG, randomize

WIDE = dataclasses.replace(
    CONFIG,
    hidden_size=64,
    hidden_size_per_layer_input=32,
    intermediate_size=160,
    head_dim=32,
    altup_active_idx=1,
    laurel_rank=32,
)
PASSES = ((5, 5), (1, 1), (16, 3), (7, 0), (1, 1), (10, 10), (16, 1), (1, 0), (2, 2))
FORMS = ("bf16", "int8", "int4")


def make(form: str) -> LanguageModel:
    model = LanguageModel(WIDE).eval()
    randomize(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(0.3)
    model = model.to(torch.bfloat16)
    return model if form == "bf16" else quantize(model, Scheme(form, None))


@pytest.fixture(scope="module", params=FORMS)
def model(request) -> LanguageModel:
    return make(request.param)


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 200, (1, sum(n for n, _ in PASSES)), generator=generator)


@pytest.fixture
def plain(monkeypatch):
    """Calls a function with the layers of torch."""

    def call(function):
        with monkeypatch.context() as patch:
            patch.setattr(taped, "serves", lambda *_: False)
            return function()

    return call


def passes(model: LanguageModel, ids: torch.Tensor, size: Slice | None = None) -> torch.Tensor:
    """Logits [K, V] of the passes, one behind the other, over a cache that grows meanwhile."""
    cache, found, start = model.new_cache(1, 4, size=size), [], 0
    for count, wanted in PASSES:
        part = ids[:, start : start + count]
        found.append(model.answer(model.embed(part), part, cache, wanted)[0])
        start += count
    assert cache.length == start
    return torch.cat(found)


def exact(model: LanguageModel) -> LanguageModel:
    """The same weights in float64."""
    wide = LanguageModel(WIDE).eval().double()
    weights = model.state_dict()
    for name, module in model.named_modules():
        form = getattr(module, "form", None)
        if form is not None:
            from kernels import unpacked

            scale = weights.pop(f"{name}.scale")
            weights[f"{name}.weight"] = unpacked(
                form, weights[f"{name}.weight"], scale, torch.float32
            )
    wide.load_state_dict(weights)
    return wide


@pytest.mark.parametrize(
    "size", [None, Slice.cut(WIDE, 72), Slice.cut(WIDE, 128, skip=(1, 6, 7))], ids=str
)
def test_as_near_to_exact_as_the_layers_of_torch(model, ids, plain, size):
    """Both round to bf16 at dozens of places; so each is compared with float64."""
    reference = passes(exact(model), ids, size)
    ours, theirs = passes(model, ids, size), plain(lambda: passes(model, ids, size))
    assert not torch.equal(ours, theirs)  # two ways indeed
    errors = [(found - reference).square().mean().sqrt() for found in (ours, theirs)]
    assert errors[0] < 1.2 * errors[1]
    assert (ours - theirs).abs().max() < 0.2 * reference.std() * 3


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_neither_threads_nor_company_change_anything(model, ids, threads):
    """Verified in one pass, or step by step: the same bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        cache = model.new_cache()
        together = model.verify(ids[:, :16], cache)[0]
        cache.truncate(0)
        alone = torch.cat([model.step(ids[:, i], cache) for i in range(16)])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(together, alone)


def test_caches_take_turns(model, ids):
    """Also one that grows and one that is cut back."""
    alone = passes(model, ids)
    caches, found = [model.new_cache(1, n) for n in (4, 200)], ([], [])
    start = 0
    for count, wanted in PASSES:
        part = ids[:, start : start + count]
        for cache, logits in zip(caches, found, strict=True):
            if count > 1:
                model.extend(model.embed(part), part, cache)
                cache.truncate(start)
            logits.append(model.answer(model.embed(part), part, cache, wanted)[0])
        start += count
    for logits in found:
        assert torch.equal(torch.cat(logits), alone)


def test_greedy_decoding_goes_through_it(model, ids, monkeypatch):
    monkeypatch.setattr(LanguageModel, "_run", None)
    cache = model.new_cache()
    logits = model.prefill(model.embed(ids[:, :12]), ids[:, :12], cache)
    assert len(greedy(model, cache, logits, 6, ()).tokens) == 6


def test_other_weights_are_noticed(ids):
    model, other = make("bf16"), make("bf16")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.25)
    passes(model, ids)
    expected = passes(other, ids)
    model.get_submodule("layers.3.mlp").up_proj = other.get_submodule("layers.3.mlp.up_proj")
    mixed = passes(model, ids)
    assert not torch.equal(mixed, expected)
    model.load_state_dict(other.state_dict())
    assert torch.equal(passes(model, ids), expected)
    for parameter in model.parameters():
        parameter.data = 0.5 * parameter.data
    halved = passes(model, ids)
    assert not torch.equal(halved, expected)
    fresh = make("bf16")
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(passes(fresh, ids), halved)


def test_a_copy_has_tapes_of_its_own(model, ids):
    expected = passes(model, ids)
    copied = copy.deepcopy(model)
    assert torch.equal(passes(copied, ids), expected)
    assert copied._tapes is not model._tapes


def test_what_it_does_not_serve():
    cache = make("bf16").new_cache
    assert taped.serves(WIDE, cache(), taped.MOST)
    assert not taped.serves(WIDE, cache(), taped.MOST + 1)
    assert not taped.serves(WIDE, cache(2), 1)
    assert not taped.serves(CONFIG, LanguageModel(CONFIG).to(torch.bfloat16).new_cache(), 1)
    assert not taped.serves(WIDE, LanguageModel(WIDE).new_cache(), 1)


def test_few_tapes_are_kept(monkeypatch, ids):
    monkeypatch.setattr(taped, "KEPT", 2)
    model = make("bf16")
    passes(model, ids)
    assert len(model._tapes._tapes) == 2
