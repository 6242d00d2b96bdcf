"""The model against transformers on the same random weights, and against itself."""

import copy
import dataclasses

import pytest
import torch

from dragoman.decoder import LanguageModel, TextConfig, unused_tensor_names
from dragoman.decoder.layers import DecoderLayer
from dragoman.decoder.model import _additive
from tests.decoder.helpers import ALIKE, CONFIG, SAME, randomize, reference


@pytest.fixture(scope="module")
def expected(theirs, ids):
    """transformers' logits [2, 25, V] of whole rows."""
    with torch.no_grad():
        return theirs(input_ids=ids).logits


def run(model, ids, **kwargs):
    with torch.no_grad():
        return model(model.embed(ids), ids, **kwargs)


def test_prompt_agrees_with_transformers(model, ids, expected):
    torch.testing.assert_close(run(model, ids), expected, **ALIKE)


@pytest.mark.parametrize(
    "changes",
    [
        {"altup_num_inputs": 2, "altup_active_idx": 1},
        {"altup_num_inputs": 4, "altup_correct_scale": False},
        {"num_kv_shared_layers": 0},
        {"num_key_value_heads": 4, "final_logit_softcapping": 3.0},
        {"intermediate_size": (32, 64) * 5},
    ],
)
def test_other_shapes_agree_with_transformers(changes, ids):
    config = dataclasses.replace(CONFIG, **changes)
    model = LanguageModel(config).eval().double()
    randomize(model)
    with torch.no_grad():
        expected = reference(config, model.state_dict())(input_ids=ids).logits
    torch.testing.assert_close(run(model, ids), expected, **ALIKE)


def test_float32_misses_float64_by_rounding_only(model, ids):
    """By no more than two float32 models miss each other whose embeddings differ in the last bit.

    That says how much these weights make of rounding, on any CPU.
    """
    single = copy.deepcopy(model).float()
    embeddings = single.embed(ids)
    moved = []
    for seed in range(4):
        sign = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(seed)).sign()
        with torch.no_grad():
            logits = single(embeddings * (1 + sign * 2**-23), ids)
        moved.append((logits - run(single, ids)).abs().max())
    assert 0 < max(moved) < 1e-2
    cache = single.new_cache(2)
    pieces = torch.cat([single.verify(ids[:, t : t + 5], cache) for t in range(0, 25, 5)], 1)
    for logits in (run(single, ids), pieces):
        assert (logits - run(model, ids)).abs().max() < 4 * max(moved)


def test_bfloat16_runs_close_to_float32(ids):
    model = LanguageModel(CONFIG).eval()
    randomize(model)
    exact = run(model, ids)
    rough = run(model.bfloat16(), ids)
    assert rough.dtype == torch.float32
    assert (rough - exact).pow(2).mean() < 0.02 * exact.var()
    cache = model.new_cache(2, 8)
    model.extend(model.embed(ids[:, :9]), ids[:, :9], cache)
    cached = model.verify(ids[:, 9:], cache)
    assert (cached - exact[:, 9:]).pow(2).mean() < 0.02 * exact.var()


@pytest.mark.parametrize("layers", [0, 4])
def test_every_mechanism_matters(model, ids, layers):
    """Each part of a layer, put out of action, moves the logits: parity above is not vacuous."""
    before = run(model, ids)
    layer = model.layers[layers]
    assert isinstance(layer, DecoderLayer)
    for name, parameter in layer.named_parameters():
        saved = parameter.detach().clone()
        with torch.no_grad():
            parameter.zero_()
            moved = (run(model, ids) - before).abs().max()
            parameter.copy_(saved)
        assert moved > 1e-3, name


def test_soft_tokens_read_row_zero_of_the_per_layer_table(model, ids):
    embeddings = model.embed(ids)
    soft, zero = ids.clone(), ids.clone()
    soft[:, 5], zero[:, 5] = 180, 0  # 180 is the first id outside the table
    other = ids.clone()
    other[:, 5] = 1
    with torch.no_grad():
        torch.testing.assert_close(model(embeddings, soft), model(embeddings, zero))
        assert not torch.allclose(model(embeddings, soft), model(embeddings, other))


def test_outputs_are_rows_of_the_whole(model, ids):
    outputs = torch.tensor([[24, 0, 7, 7], [3, 4, 23, 12]])
    whole = run(model, ids)
    chosen = whole.gather(1, outputs[..., None].expand(-1, -1, whole.shape[-1]))
    torch.testing.assert_close(run(model, ids, outputs=outputs), chosen, **SAME)


def test_padding_anywhere_changes_nothing(model, ids):
    lengths, width = (17, 25), 32
    generator = torch.Generator().manual_seed(3)
    padded = torch.randint(0, 200, (2, width), generator=generator)
    valid = torch.zeros(2, width, dtype=torch.bool)
    for row, length in enumerate(lengths):
        places = 1 + torch.randperm(width - 1, generator=generator)[:length].sort().values
        valid[row, places] = True
        padded[row, places] = ids[row, :length]
    assert not valid[0, 0] and valid[0, :-1].diff().any()
    logits = run(model, padded, valid=valid)
    assert logits.isfinite().all()
    for row, length in enumerate(lengths):
        alone = run(model, ids[row : row + 1, :length])[0]
        torch.testing.assert_close(logits[row, valid[row]], alone, **SAME)
    outputs = valid.long().argmax(1, keepdim=True)
    first = run(model, padded, valid=valid, outputs=outputs)
    torch.testing.assert_close(first[:, 0], run(model, ids[:, :1])[:, 0], **SAME)


def test_no_query_is_left_without_a_key():
    allowed = torch.tensor([[[False, False], [True, False]]])
    mask = _additive(allowed, torch.float32)
    assert mask.tolist() == [[[[0.0, 0.0], [0.0, float("-inf")]]]]


def test_given_positions_are_used(model, ids):
    # Only distances matter; but angles are float32, whose rounding grows with the position.
    shifted = torch.arange(25).expand(2, 25) + 100
    torch.testing.assert_close(run(model, ids, positions=shifted), run(model, ids), **ALIKE)
    spread = torch.arange(25).expand(2, 25) * 3
    assert not torch.allclose(run(model, ids, positions=spread), run(model, ids), **SAME)


def test_wrong_shapes_are_refused(model, ids):
    with pytest.raises(ValueError, match="hidden_size 32"):
        model(torch.zeros(2, 25, 31), ids)
    with pytest.raises(ValueError, match="L >= 1"):
        model(torch.zeros(2, 0, 32), ids[:, :0])


def test_every_parameter_gets_a_finite_gradient(ids):
    model = LanguageModel(CONFIG).train()
    randomize(model)
    with torch.no_grad():  # rows without any variance must not make the gradient infinite
        model.layers[0].mlp.gate_proj.weight.zero_()  # type: ignore[union-attr]
        model.embed_tokens.weight[ids[0, 0]] = 0.0
    valid = torch.ones_like(ids, dtype=torch.bool)
    valid[:, :2] = False
    outputs = torch.arange(5, 24).expand(2, 19)
    logits = model(model.embed(ids), ids, valid=valid, outputs=outputs)
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 6:].flatten()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # Behind a gate of exactly zero the first layer's feed-forward is rightly still.
        assert parameter.grad.abs().max() > 0 or name.startswith("layers.0."), name


def test_fresh_model_has_moderate_nonzero_gradients(ids):
    torch.manual_seed(0)
    model = LanguageModel(CONFIG).train()
    logits = model(model.embed(ids), ids)
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and 0 < parameter.grad.norm() < 1e3, name


def test_coefficients_are_clipped_in_training_only(ids):
    model = LanguageModel(dataclasses.replace(CONFIG, altup_coef_clip=0.1))
    randomize(model)
    free = run(model.eval(), ids)
    clipped = run(model.train(), ids)
    assert not torch.allclose(free, clipped)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "_coefs" in name:
                parameter.clamp_(-0.1, 0.1)
    torch.testing.assert_close(run(model.eval(), ids), clipped)


@pytest.mark.parametrize(
    ("layers", "shared", "width", "billions"), [(30, 10, 8192, 4.46), (35, 15, 16384, 6.87)]
)
def test_official_sizes_have_the_known_parameter_counts(layers, shared, width, billions):
    config = TextConfig(
        num_hidden_layers=layers, num_kv_shared_layers=shared, intermediate_size=width
    )
    with torch.device("meta"):
        model = LanguageModel(config)
        ids = torch.zeros(1, 8, dtype=torch.long)
        assert model(model.embed(ids), ids).shape == (1, 8, 262_400)
    count = sum(parameter.numel() for parameter in model.parameters())
    names = unused_tensor_names(config)  # counted by the official figure, as they lie on disk
    sizes = {"k_proj": 2048 * 512, "v_proj": 2048 * 512, "k_norm": 256}
    count += sum(sizes[name.split(".")[-2]] for name in names)
    assert round(count / 1e9, 2) == billions
    assert not list(model.buffers())
