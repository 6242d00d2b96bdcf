"""A slice run inside the model against the standalone model that it is."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.decoder import LanguageModel, Slice, TextConfig
from dragoman.decoder.slices import plan, runs
from tests.decoder.helpers import CONFIG, SAME
from tests.decoder.test_generate import stepwise

E4B = TextConfig()

# Of CONFIG's ten layers 0-4 own their keys and values; 5-8 slide and read 3, 9 is full and reads 4.
SIZES = {
    "narrow": Slice.cut(CONFIG, 24),
    "mixed": Slice.cut(CONFIG, (64, 24) * 5),
    "without a block": Slice.cut(CONFIG, 24, skip=(5, 6, 7)),
    "scattered": Slice.cut(CONFIG, (64, 8, 40, 64, 16, 1), skip=(0, 2, 6, 8)),
    "only owners": Slice.cut(CONFIG, skip=range(5, 10)),
    "no full source": Slice.cut(CONFIG, skip=(4, 9)),
}


def standalone(model: LanguageModel, size: Slice) -> LanguageModel:
    """A model of its own with copies of the weights that `size` uses."""
    parent, P = model.config, model.config.hidden_size_per_layer_input
    rows = [i * P + j for i in size.layers for j in range(P)]
    weights = {}
    for name, tensor in model.state_dict().items():
        if name.startswith("layers."):
            _, old, rest = name.split(".", 2)
            if int(old) not in size.layers:
                continue
            new = size.layers.index(int(old))
            width = size.widths[new]
            if "mlp.gate" in rest or "mlp.up" in rest:
                tensor = tensor[:width]
            elif "mlp.down" in rest:
                tensor = tensor[:, :width]
            name = f"layers.{new}.{rest}"
        elif name == "per_layer_model_projection.weight":
            tensor = tensor[rows]
        elif name == "embed_tokens_per_layer.weight":
            tensor = tensor[:, rows]
        weights[name] = tensor.clone()
    small = LanguageModel(size.config(parent)).eval().to(model.dtype)
    small.load_state_dict(weights)
    return small


def run(model, ids, **kwargs):
    with torch.no_grad():
        return model(model.embed(ids), ids, **kwargs)


@pytest.fixture(scope="module", params=SIZES)
def size(request) -> Slice:
    return SIZES[request.param]


@pytest.fixture(scope="module")
def small(model, size) -> LanguageModel:
    return standalone(model, size)


def test_whole_sequences_are_those_of_the_standalone_model(model, ids, size, small):
    outputs = torch.tensor([[24, 0, 7, 7], [3, 4, 23, 12]])
    for chosen in (None, outputs):
        expected = run(small, ids, outputs=chosen)
        torch.testing.assert_close(run(model, ids, outputs=chosen, size=size), expected, **SAME)
    assert not torch.allclose(run(model, ids), run(small, ids), atol=1e-2)


def test_every_pass_over_a_cache_is_that_of_the_standalone_model(model, ids, size, small):
    def passes(model, cache):
        """All kinds of passes, and what is left after a truncation."""
        model.extend(model.embed(ids[:, :5]), ids[:, :5], cache)
        yield model.prefill(model.embed(ids[:, 5:9]), ids[:, 5:9], cache)
        yield model.step(ids[:, 9], cache)
        yield model.verify(ids[:, 10:], cache)
        cache.truncate(7)
        yield model.verify(ids[:, 20:23], cache)

    ours = passes(model, model.new_cache(2, 4, size=size))
    for got, expected in zip(ours, passes(small, small.new_cache(2, 4)), strict=True):
        torch.testing.assert_close(got, expected, **SAME)


def test_greedy_text_is_that_of_the_standalone_model(model, size, small):
    prompt = list(range(20, 31))
    assert stepwise(model, prompt, 12, size) == stepwise(small, prompt, 12)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_slice_that_is_accepted_is_exact(model, ids, data):
    skip = data.draw(st.sets(st.integers(0, 9), max_size=8))
    try:
        whole = Slice.cut(CONFIG, skip=skip)
    except ValueError as error:
        sources = {3: {5, 6, 7, 8}, 4: {9}}
        assert any(s in skip and readers - skip for s, readers in sources.items()), error
        return
    widths = data.draw(st.lists(st.integers(1, 64), min_size=10, max_size=10))
    size = Slice(whole.layers, tuple(widths[: len(whole.layers)]))
    expected = run(standalone(model, size), ids)
    torch.testing.assert_close(run(model, ids, size=size), expected, **SAME)


def test_official_e2b_is_this_slice_of_e4b():
    e2b = Slice.cut(E4B, 8192, skip=range(20, 25)).config(E4B)
    assert dataclasses.asdict(e2b) == dataclasses.asdict(E4B) | {
        "num_hidden_layers": 30,
        "num_kv_shared_layers": 10,
        "layer_types": (("sliding_attention",) * 4 + ("full_attention",)) * 6,
        "intermediate_size": (8192,) * 30,
        "activation_sparsity_pattern": (0.95,) * 10 + (0.0,) * 20,
    }


def test_config_follows_the_layers_that_are_left():
    size = Slice.cut(CONFIG, (64, 8, 40, 64, 16, 1), skip=(0, 2, 6, 8))
    config = size.config(CONFIG)
    assert (config.num_hidden_layers, config.num_kv_shared_layers) == (6, 3)
    assert config.ffn_widths == (64, 8, 40, 64, 16, 1)
    assert config.sparsities == (0.7, 0.0, 0.0, 0.0, 0.0, 0.0)  # that of layers 1, 3, 4, 5, 7, 9
    kinds = [kind.split("_")[0] for kind in config.layer_kinds]
    assert kinds == ["sliding", "sliding", "full", "sliding", "sliding", "full"]


def test_the_whole_is_a_slice_too(model, ids):
    whole = Slice.whole(CONFIG)
    assert whole == Slice.cut(CONFIG) == Slice.cut(CONFIG, 64) == model.new_cache().size
    assert whole.config(CONFIG) == CONFIG
    assert torch.equal(run(model, ids, size=whole), run(model, ids))


@pytest.mark.parametrize(
    ("widths", "skip", "message"),
    [
        (8192, (18,), r"layer 18 cannot be skipped: layers 20-23, 25-28, 30-33 read its keys"),
        (8192, (19, 20), r"layer 19 cannot be skipped: layers 24, 29, 34 read"),
        (0, (), r"FFN width of layer 0 must lie in \[1, 16384\], got 0"),
        ((8192,) * 34 + (16385,), (), r"FFN width of layer 34 must lie in \[1, 16384\], got 16385"),
        ((8192,) * 35, (20,), "35 FFN widths for 34 layers"),
        (8192, (34, 35, 36), r"no layer 35-36: the model's layers are 0-34"),
        (8192, (-1,), "no layer -1"),
        (8192, range(35), "at least one layer"),
    ],
)
def test_impossible_slices_are_refused(widths, skip, message):
    with pytest.raises(ValueError, match=message):
        Slice.cut(E4B, widths, skip)


def test_a_slice_of_another_model_is_refused_everywhere(model, ids):
    size = Slice.cut(E4B, 64)
    with pytest.raises(ValueError, match="no layer 10-34"):
        run(model, ids, size=size)
    with pytest.raises(ValueError, match="no layer 10-34"):
        model.new_cache(size=size)
    with pytest.raises(ValueError, match="no layer 10-34"):
        size.config(CONFIG)
    with pytest.raises(ValueError, match="rising order"):
        Slice((1, 0), (64, 64))


def test_a_cache_knows_its_size_and_holds_what_that_needs(model, ids, small, size):
    cache = model.new_cache(2, 8, size=size)
    assert cache.size == size
    owners = sum(i < 5 for i in size.layers)
    assert cache.nbytes == 8 * owners * 2 * (2 * 2 * 8) * 8  # k and v, rows x heads x width, bytes
    with pytest.raises(ValueError, match="the cache is of another model"):
        small.extend(small.embed(ids), ids, cache)
    assert cache.length == 0


def test_switching_back_and_forth_leaves_no_trace(model, ids):
    """Caches of two sizes, a piece to each in turn, against each size alone."""
    sizes = (None, SIZES["without a block"], SIZES["narrow"])
    alone = [run(model, ids, size=size) for size in sizes]
    caches = [model.new_cache(2, size=size) for size in sizes]
    for t in range(0, 25, 5):
        for cache, expected in zip(caches, alone, strict=True):
            got = model.verify(ids[:, t : t + 5], cache)
            torch.testing.assert_close(got, expected[:, t : t + 5], **SAME)
    assert all(torch.equal(run(model, ids, size=s), e) for s, e in zip(sizes, alone, strict=True))


def test_weights_are_neither_copied_nor_moved(model, ids):
    before = {name: (p.data_ptr(), p.shape) for name, p in model.named_parameters()}
    seen = set()
    linear, embedding = torch.nn.functional.linear, torch.nn.functional.embedding

    def spy_linear(x, weight):
        seen.add(weight.untyped_storage().data_ptr())
        return linear(x, weight)

    def spy_embedding(x, weight, *rest):
        seen.add(weight.untyped_storage().data_ptr())
        return embedding(x, weight, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "linear", spy_linear)
        patch.setattr(torch.nn.functional, "embedding", spy_embedding)
        for size in SIZES.values():
            cache = model.new_cache(2, size=size)
            model.prefill(model.embed(ids), ids, cache)
            model.step(ids[:, 0], cache)
    assert {name: (p.data_ptr(), p.shape) for name, p in model.named_parameters()} == before
    assert seen <= {p.untyped_storage().data_ptr() for p in model.parameters()}
    assert model.embed_tokens_per_layer.weight.untyped_storage().data_ptr() in seen


def test_layers_that_are_skipped_are_not_read(model, ids):
    """Not a number in them changes nothing: neither their weights nor their per-layer inputs."""
    size, P = SIZES["without a block"], CONFIG.hidden_size_per_layer_input
    broken = LanguageModel(CONFIG).eval()
    broken.load_state_dict(model.state_dict())
    with torch.no_grad():
        for i in (5, 6, 7):
            for parameter in broken.layers[i].parameters():
                parameter.fill_(torch.nan)
        broken.per_layer_model_projection.weight[5 * P : 8 * P] = torch.nan
        broken.embed_tokens_per_layer.weight[:, 5 * P : 8 * P] = torch.nan
    for logits in (
        run(broken, ids, size=size),
        run(broken, ids, size=size, outputs=ids[:, :3] % 25),
    ):
        assert logits.isfinite().all()


def test_per_layer_inputs_are_made_only_where_they_are_used(model, ids, monkeypatch):
    """Rows of the projection, by layer, for how many positions of each row of the batch."""
    made, P = [], CONFIG.hidden_size_per_layer_input
    project = type(model.per_layer_model_projection).forward

    def spy(self, x, rows=None, columns=None):
        if self is model.per_layer_model_projection:
            assert isinstance(rows, slice)
            made.append((rows.start // P, rows.stop // P, x.shape[1]))
        return project(self, x, rows, columns)

    monkeypatch.setattr(type(model.per_layer_model_projection), "forward", spy)
    for size, expected in (
        (None, [(0, 4, 25), (4, 10, 1), (0, 4, 25), (0, 10, 1)]),
        (
            SIZES["without a block"],
            [(0, 4, 25), (4, 5, 1), (8, 10, 1), (0, 4, 25), (0, 5, 1), (8, 10, 1)],
        ),
    ):
        made.clear()
        cache = model.new_cache(2, size=size)
        model.prefill(model.embed(ids), ids, cache)
        model.extend(model.embed(ids), ids, cache)
        model.step(ids[:, 0], cache)
        assert made == expected


def test_plan_marks_full_widths_and_neighbours():
    how = plan(CONFIG, Slice.cut(CONFIG, (64, 8, 40, 64, 16, 1), skip=(0, 2, 6, 8)))
    assert how.steps == ((1, None), (3, 8), (4, 40), (5, None), (7, 16), (9, 1))
    assert how.owners == (1, 3, 4)
    assert how.blocks == (range(1, 2), range(3, 6), range(7, 8), range(9, 10))
    assert how.below == (range(1, 2), range(3, 4))
    assert how.above == (range(4, 6), range(7, 8), range(9, 10))
    assert runs([]) == ()
