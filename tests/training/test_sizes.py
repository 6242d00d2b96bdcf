import random

from dragoman.decoder import TextConfig
from training import nano, sizes

TEXT = TextConfig(
    vocab_size=80, vocab_size_per_layer_input=64, hidden_size=32, intermediate_size=64,
    num_hidden_layers=10, num_kv_shared_layers=5,
)  # fmt: skip


def test_three_widths_are_drawn_with_and_without_the_layers_that_may_go():
    rng, seen = random.Random(0), []
    for _ in range(400):
        size = sizes.drawn(TEXT, rng)
        seen.append(None if size is None else (size.widths[0], size.layers))
    kept = tuple(i for i in range(10) if i not in (5, 6))
    assert set(seen) == {None, *((w, ls) for w in (32, 16) for ls in (tuple(range(10)), kept))}
    assert 180 < seen.count(None) < 260


def test_the_owners_of_keys_and_values_are_never_skipped():
    assert sizes.skippable(TEXT) == (5, 6)
    few = TextConfig(num_hidden_layers=6, num_kv_shared_layers=1, intermediate_size=64)
    assert sizes.skippable(few) == (), "something runs above the owners"


def test_the_bundled_shape_has_every_size():
    shape = nano.SHAPE
    assert shape.ffn % max(sizes.FRACTIONS) == 0 and shape.shared > sizes.SKIPPABLE
