"""Quantized weights: how near they come, and that a model with them computes with just them."""

import copy
import dataclasses

import pytest
import torch

from dragoman.decoder import LanguageModel, Slice, TextConfig, storage
from dragoman.decoder.quantize import (
    QuantizedLinear,
    QuantizedTokenTable,
    Scheme,
    fits,
    plan,
    quantize,
    quantized,
)
from dragoman.kernels import accelerate
from tests.decoder.helpers import CONFIG, SAME, random_model, unpacked_weights
from tests.decoder.test_slices import standalone
from tests.kernels.test_products import beside, pack
from tests.parts import layer

WIDE = dataclasses.replace(
    CONFIG,
    vocab_size=208,
    hidden_size=64,
    hidden_size_per_layer_input=16,
    head_dim=16,
    intermediate_size=256,
)
WIDER = dataclasses.replace(WIDE, hidden_size=128, head_dim=32)  # what bf12 takes
E2B = TextConfig(num_hidden_layers=30, num_kv_shared_layers=10, intermediate_size=8192)
SCHEMES = [Scheme("int8"), Scheme("int4"), Scheme("int4", "int4"), Scheme("int8", None)]


def made(config: TextConfig = WIDE, dtype: torch.dtype = torch.float64) -> LanguageModel:
    """In float64, where torch does everything and its order of sums does not show."""
    return random_model(config).to(dtype)


def with_numbers(model: LanguageModel) -> LanguageModel:
    """An ordinary model with the numbers that the weights of a quantized one stand for."""
    plain = made(model.config, model.dtype)
    plain.load_state_dict(unpacked_weights(model, model.dtype))
    return plain


def logits(model: LanguageModel, ids: torch.Tensor, size: Slice | None = None) -> torch.Tensor:
    with torch.inference_mode():
        return model(model.embed(ids), ids, size=size)


def error(form: str, weight: torch.Tensor) -> float:
    """Of the weights, relative to their root mean square."""
    numbers = storage.unpacked(form, *quantized(form, weight), torch.float32)
    return ((numbers - weight).norm() / weight.norm()).item()


def test_errors_of_normal_weights():
    weight = 0.02 * torch.randn(304, 2048, generator=torch.Generator().manual_seed(0))
    assert error("int8", weight) < 0.0068
    assert error("int4", weight) < 0.0835


def test_int4_is_better_than_one_scale_to_the_largest():
    groups = torch.randn(1008, 32, generator=torch.Generator().manual_seed(0))
    scale = groups.abs().amax(-1, keepdim=True) / 7
    plain = ((groups / scale).round() * scale - groups).norm() / groups.norm()
    assert error("int4", groups) < 0.87 * plain.item()


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_an_outlier_spoils_its_own_group_only(form):
    group = storage.GROUP_INPUTS[form]
    weight = torch.randn(16, 2 * group, generator=torch.Generator().manual_seed(0))
    numbers = storage.unpacked(form, *quantized(form, weight), torch.float32)
    weight[0, 0] = 1000.0
    spoiled = storage.unpacked(form, *quantized(form, weight), torch.float32)
    assert torch.equal(spoiled[:, group:], numbers[:, group:])
    assert abs(spoiled[0, 0] - 1000.0) < 5.0


def test_what_the_forms_can_hold_is_kept():
    integers = torch.randint(-7, 8, (16, 64), generator=torch.Generator().manual_seed(0)).float()
    integers[:, 5], integers[:, 40] = -8, -8
    codes, scale = quantized("int4", 0.25 * integers)
    assert torch.equal(codes, pack("int4", integers.int())) and (scale == 0.25).all()
    integers[:, 5] = 127
    codes, scale = quantized("int8", integers / 64)
    assert torch.equal(codes, pack("int8", integers.int())) and (scale == 1 / 64).all()


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_scales_lie_beside_each_other(form):
    """Group g of output n has the scale (n + 1) 2^g."""
    group = storage.GROUP_INPUTS[form]
    weight = torch.zeros(32, 2 * group)
    sizes = 2.0 ** torch.arange(2)[None] * torch.arange(1, 33)[:, None]
    weight[:, ::group] = sizes * (127 if form == "int8" else -8)
    assert torch.equal(quantized(form, weight)[1].float(), beside(sizes))


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_zeros_stay_zeros(form):
    codes, scale = quantized(form, torch.zeros(16, 160))
    assert torch.equal(storage.unpacked(form, codes, scale, torch.float32), torch.zeros(16, 160))


def test_large_matrices_are_done_in_pieces(monkeypatch):
    weight = torch.randn(112, 64)
    whole = quantized("int4", weight)
    monkeypatch.setattr("dragoman.decoder.quantize.PIECE", 64 * 16 * 3)
    assert all(map(torch.equal, quantized("int4", weight), whole))


@pytest.mark.parametrize("form", ["int8", "int4", "bf12"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_numbers(form, bad):
    weight = torch.zeros(16, 128)
    weight[1, 40] = bad
    with pytest.raises(ValueError, match="not finite"):
        quantized(form, weight)


def test_other_widths_and_forms_are_refused():
    for shape in ((16, 40), (24, 64)):
        with pytest.raises(ValueError, match=f"16 outputs and of 32 inputs, got {shape[0]} and"):
            quantized("int8", torch.zeros(shape))
    with pytest.raises(ValueError, match="1 outputs and of 128 inputs, got 16 and 64"):
        quantized("bf12", torch.zeros(16, 64))
    with pytest.raises(ValueError, match="'int3'"):
        Scheme("int3")
    with pytest.raises(ValueError, match="'bf16'"):
        Scheme("int8", "bf16")


def test_a_damaged_matrix_is_named():
    model = made()
    layer(model, 3).mlp.up_proj.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"^layers\.3\.mlp\.up_proj: weights are not finite"):
        quantize(model, Scheme("int8"))


def test_which_modules_of_the_released_model_are_quantized():
    with torch.device("meta"):
        model = LanguageModel(E2B)
    forms = plan(model, Scheme("int4", "int8"))
    assert forms.pop("embed_tokens") == "int8"
    assert set(forms.values()) == {"int4"}
    kinds = {name.rpartition(".")[2] for name in forms}
    assert kinds == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
        "per_layer_input_gate", "per_layer_projection", "per_layer_model_projection",
        "0", "1", "2",
    }  # fmt: skip
    assert len(forms) == 30 * 7 + 20 * 2 + 1 + 6
    read = sum(p.numel() for n, p in model.named_parameters() if "tokens_per_layer" not in n)
    quantize(model, Scheme("int4", "int4"))
    kept = sum(p.numel() for n, p in model.named_parameters() if "tokens_per_layer" not in n)
    assert kept < 0.005 * read
    bytes_ = sum(b.nbytes for b in model.buffers()) + 2 * kept
    assert bytes_ / read < 0.57  # of a byte: 4.5 bits and what is kept


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_the_model_computes_with_the_numbers_of_its_weights(scheme):
    model = quantize(made(), scheme)
    assert isinstance(model.embed_tokens, QuantizedTokenTable) == (scheme.head is not None)
    assert isinstance(layer(model, 0).altup.prediction_coefs, torch.nn.Linear)
    ids = torch.randint(0, 200, (2, 9), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(logits(model, ids), logits(with_numbers(model), ids), **SAME)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_what_rounding_activations_costs(scheme):
    """Less than rounding the weights does."""
    ids = torch.randint(0, 200, (2, 9), generator=torch.Generator().manual_seed(1))
    single = made(dtype=torch.float32)
    plain, model = logits(single, ids), accelerate(quantize(copy.deepcopy(single), scheme))
    numbers = logits(with_numbers(model), ids)
    assert (logits(model, ids) - numbers).norm() < 1.1 * (numbers - plain).norm()


def test_decoding_step_by_step_is_the_whole_pass():
    model = quantize(made(), Scheme("int4"))
    ids = torch.randint(0, 200, (1, 12), generator=torch.Generator().manual_seed(1))
    cache = model.new_cache()
    steps = [model.prefill(model.embed(ids[:, :9]), ids[:, :9], cache)]
    steps += [model.step(ids[:, i], cache) for i in range(9, 12)]
    whole = logits(model, ids)[0, 8:]
    torch.testing.assert_close(torch.cat(steps), whole, **SAME)


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_a_slice_is_the_quantized_standalone(form):
    scheme, size = Scheme(form), Slice.cut(WIDE, 128, skip=(5, 6, 7))
    ids = torch.randint(0, 200, (1, 9), generator=torch.Generator().manual_seed(1))
    small = quantize(standalone(made(), size), scheme)
    model = quantize(made(), scheme)
    assert torch.equal(logits(model, ids, size), logits(small, ids))
    assert not torch.equal(logits(model, ids, size), logits(model, ids))


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_slices_of_any_width(form):
    model = quantize(made(), Scheme(form))
    ids = torch.randint(0, 200, (1, 9), generator=torch.Generator().manual_seed(1))
    size = Slice.cut(WIDE, (1, 31, 33, 200, 130, 97, 64, 5, 255, 256))
    torch.testing.assert_close(
        logits(model, ids, size), logits(with_numbers(model), ids, size), **SAME
    )


def test_embeddings_are_rows_of_the_head():
    model = quantize(made().to(torch.bfloat16), Scheme("int8", "int4"))
    table = model.embed_tokens
    ids = torch.tensor([[3, 199], [0, 3]])
    embeddings = table(ids)
    assert embeddings.shape == (2, 2, 64) and embeddings.dtype == torch.bfloat16
    assert isinstance(table, QuantizedTokenTable)
    rows = storage.unpacked("int4", table.weight, table.scale, torch.bfloat16)
    assert torch.equal(embeddings, rows[ids])


def test_no_ids_have_no_embeddings():
    table = quantize(LanguageModel(CONFIG).eval(), Scheme("int8", "int8")).embed_tokens
    assert table(torch.empty(2, 0, dtype=torch.int64)).shape == (2, 0, CONFIG.hidden_size)


def test_quantized_on_the_meta_device_is_the_same_model():
    model = quantize(made(), Scheme("int4"))
    with torch.device("meta"):
        empty = quantize(LanguageModel(WIDE).double(), Scheme("int4"))
    weights = model.state_dict()
    assert {n: (t.shape, t.dtype) for n, t in weights.items()} == {
        n: (t.shape, t.dtype) for n, t in empty.state_dict().items()
    }
    empty.load_state_dict(weights, assign=True)
    ids = torch.arange(5)[None]
    assert torch.equal(logits(empty.eval(), ids), logits(model, ids))


def made_of_halves(config: TextConfig) -> LanguageModel:
    """A model in float64 whose weights bf16 can hold."""
    return made(config).to(torch.bfloat16).double()


def test_bf12_keeps_every_bit_whatever_the_pieces(monkeypatch):
    weight = torch.randn(40, 256, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    weight[3] *= 2.0 ** torch.arange(-128, 128).clamp(-100, 100)
    weight[5, ::2], weight[6] = -0.0, 0.0
    codes, rest = quantized("bf12", weight)
    assert rest.shape[0] == 40 and rest.shape[1] > 64
    numbers = storage.unpacked("bf12", codes, rest, torch.bfloat16)
    assert torch.equal(numbers.view(torch.int16), weight.view(torch.int16))
    monkeypatch.setattr("dragoman.decoder.quantize.PIECE", 256 * 7)
    assert all(map(torch.equal, quantized("bf12", weight), (codes, rest)))


def test_a_model_in_bf12_is_the_model():
    scheme = Scheme("bf12", "bf12")
    plain, model = made_of_halves(WIDER), quantize(made_of_halves(WIDER), scheme)
    assert isinstance(model.embed_tokens, QuantizedTokenTable)
    assert isinstance(layer(model, 0).mlp.up_proj, QuantizedLinear)
    ids = torch.randint(0, 200, (2, 9), generator=torch.Generator().manual_seed(1))
    assert torch.equal(model.embed(ids), plain.embed(ids))
    for size in (None, Slice.cut(WIDER, 128, skip=(5, 6, 7)), Slice.cut(WIDER, 99)):
        torch.testing.assert_close(logits(model, ids, size), logits(plain, ids, size), **SAME)


def test_bf12_on_the_meta_device_has_the_places_of_the_model():
    scheme = Scheme("bf12", "bf12")
    model = quantize(made_of_halves(WIDER), scheme)
    with torch.device("meta"):
        empty = quantize(LanguageModel(WIDER), scheme)
    found, expected = empty.state_dict(), model.state_dict()
    assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in expected.items()}


def test_bf12_takes_no_more_inputs_than_it_can_number():
    most = torch.empty(1, 65408, dtype=torch.bfloat16)
    more = torch.empty(1, 65536, dtype=torch.bfloat16)
    assert fits("bf12", most) and not fits("bf12", more)
    with pytest.raises(ValueError, match="at most 65408"):
        quantized("bf12", more)
