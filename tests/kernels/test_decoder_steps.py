"""Passes that are one call against the same by the definition, in bf16, bf12, int8 and int4."""

import copy
import dataclasses

import pytest
import torch

from dragoman.decoder import LanguageModel, Slice, TextConfig
from dragoman.decoder.quantize import QuantizedLinear, Scheme, quantize
from dragoman.kernels import accelerate, decoder_steps, quick_decoder
from tests.decoder.helpers import CONFIG, random_model, unpacked_weights
from tests.decoder.test_generate import stepwise
from tests.parts import layer

WIDE = dataclasses.replace(
    CONFIG,
    vocab_size=208,
    hidden_size=128,
    hidden_size_per_layer_input=32,
    intermediate_size=256,
    head_dim=32,
    altup_active_idx=1,
    laurel_rank=32,
)
PASSES = ((5, 5), (1, 1), (16, 3), (7, 0), (1, 1), (10, 10), (16, 1), (1, 0), (2, 2))
FORMS = ("bf16", "bf12", "int8", "int4")


def make(form: str, config: TextConfig = WIDE) -> LanguageModel:
    return accelerate(define(form, config))


def define(form: str, config: TextConfig = WIDE) -> LanguageModel:
    model = random_model(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.mul_(0.3)
    model = model.to(torch.bfloat16)
    return model if form == "bf16" else quantize(model, Scheme(form, form))


@pytest.fixture(scope="module", params=FORMS)
def form(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(form) -> LanguageModel:
    return make(form)


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 200, (1, sum(n for n, _ in PASSES)), generator=generator)


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
    wide.load_state_dict(unpacked_weights(model, torch.float32))
    return wide


@pytest.mark.parametrize(
    "size", [None, Slice.cut(WIDE, 72), Slice.cut(WIDE, 160, skip=(1, 6, 7))], ids=str
)
def test_as_near_to_exact_as_layer_by_layer(form, model, ids, size, monkeypatch):
    """All round to bf16 at dozens of places; so each is compared with float64. The definition
    counts in bf16 and bf12; beside other weights it does not round activations to int8."""
    reference = passes(exact(model), ids, size)
    ours = passes(model, ids, size)
    monkeypatch.setattr(quick_decoder, "serves_pass", lambda *_: False)
    others = [passes(model, ids, size)]
    if form in ("bf16", "bf12"):
        others.append(passes(define(form), ids, size))
    for theirs in others:
        assert not torch.equal(ours, theirs)  # two ways indeed
        errors = [(found - reference).square().mean().sqrt() for found in (ours, theirs)]
        assert errors[0] < 1.2 * errors[1]
        assert (ours - theirs).square().mean().sqrt() < 0.2 * reference.std()


@pytest.mark.parametrize(
    ("hidden", "width", "cut"), [(128, 160, None), (96, 256, 72), (96, 256, 160)]
)
def test_layers_of_mixed_forms(hidden, width, cut, ids):
    """Where only the ways up, or only those down, come in multiples of what bf12 takes."""
    config = dataclasses.replace(WIDE, hidden_size=hidden, intermediate_size=width)
    size = None if cut is None else Slice.cut(config, cut)
    model = make("bf12", config)
    mlp = layer(model, 0).mlp
    assert isinstance(mlp.up_proj, QuantizedLinear) != isinstance(mlp.down_proj, QuantizedLinear)
    expected = passes(make("bf16", config), ids, size)
    missed = (passes(model, ids, size) - expected).square().mean().sqrt()
    assert missed < 0.1 * expected.std()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_neither_threads_nor_company_change_anything(model, ids, threads, monkeypatch):
    """Verified in one pass, or step by step: the same bits."""
    monkeypatch.setattr(LanguageModel, "_run", None)
    most = decoder_steps.MOST
    torch.set_num_threads(threads)
    cache = model.new_cache()
    together = model.verify(ids[:, :most], cache)[0]
    cache.truncate(0)
    alone = torch.cat([model.step(ids[:, i], cache) for i in range(most)])
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


def test_decoding_goes_through_it(model, monkeypatch):
    monkeypatch.setattr(LanguageModel, "_run", None)
    assert len(stepwise(model, list(range(12)), 6)) == 6


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


def test_a_copy_has_recordings_of_its_own(model, ids):
    expected = passes(model, ids)
    copied = copy.deepcopy(model)
    assert torch.equal(passes(copied, ids), expected)
    assert copied.recorded is not model.recorded


def test_what_it_does_not_serve():
    def serves(model: LanguageModel, rows: int, batch: int = 1) -> bool:
        return decoder_steps.serves_pass(model.layers, model.config, model.new_cache(batch), rows)

    for form in FORMS:
        assert serves(make(form), decoder_steps.MOST)
        assert not serves(make(form), decoder_steps.MOST + 1)
    assert not serves(make("bf16"), 1, batch=2)
    assert not serves(LanguageModel(CONFIG).to(torch.bfloat16), 1)
    assert not serves(LanguageModel(WIDE), 1)


def test_few_recordings_are_kept(monkeypatch, ids):
    monkeypatch.setattr(decoder_steps, "KEPT", 2)
    model = make("bf16")
    passes(model, ids)
    assert isinstance(model, quick_decoder.QuickLanguageModel)
    assert len(model.recorded.recordings) == 2
