"""Names and lists of sizes: what they mean, how they are written, and what is refused."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.decoder import Slice, TextConfig
from dragoman.errors import SizeError
from dragoman.models import sizes
from dragoman.models.sizes import E4B, PUBLISHED, parse
from tests.decoder.helpers import CONFIG

E2B = TextConfig(num_hidden_layers=30, num_kv_shared_layers=10, intermediate_size=8192)


def test_official_names_on_e4b_are_these_layers_and_widths():
    narrow, wide, kept = 8192, 16384, (*range(20), *range(25, 35))
    assert parse("E4B", E4B) == Slice(tuple(range(35)), (wide,) * 35)
    assert parse("E2B", E4B) == Slice(kept, (narrow,) * 30)
    assert parse("E2B", E4B).config(E4B) == E2B
    assert parse("E1.96B-layer", E4B) == Slice(kept, (narrow,) * 4 + (wide,) + (narrow,) * 25)
    widths = [wide if i in (4, 20, 21, 22, 23, 24) else narrow for i in range(35)]
    assert parse("E2.54B-layer", E4B) == Slice(tuple(range(35)), tuple(widths))
    widths = [wide if 10 <= i < 25 else narrow for i in range(35)]
    assert parse("e2.98b-BLOCK", E4B) == Slice(tuple(range(35)), tuple(widths))
    assert list(sizes.sizes(E4B)) == [*PUBLISHED, "full", "half"]


def test_a_sliced_model_has_the_name_of_what_it_is():
    assert list(sizes.sizes(E2B)) == ["E2B", "full", "half"]
    assert parse("E2B", E2B) == parse("full", E2B) == Slice.whole(E2B)
    sliced = PUBLISHED["E2.54B-layer"].size.config(E4B)
    assert sizes.name(Slice.whole(sliced), sliced) == "E2.54B-layer"


def test_other_models_have_relative_sizes():
    config = dataclasses.replace(CONFIG, intermediate_size=(64, 1, 33) + (10,) * 7)
    assert list(sizes.sizes(config)) == ["full", "half"]
    assert parse("full", config) == Slice.whole(config)
    assert parse("half", config) == Slice(tuple(range(10)), (32, 1, 16) + (5,) * 7)


@pytest.mark.parametrize(
    ("text", "layers", "widths"),
    [
        ("24", range(10), [24] * 10),
        ("5-7=skip", [0, 1, 2, 3, 4, 8, 9], [64] * 7),
        ("24, 4=64 ,5-7=skip", [0, 1, 2, 3, 4, 8, 9], [24, 24, 24, 24, 64, 24, 24]),
        ("0-9=8,2-3=16,3=1", range(10), [8, 8, 16, 1] + [8] * 6),
        ("5-7=skip,6=3", [0, 1, 2, 3, 4, 6, 8, 9], [64] * 5 + [3, 64, 64]),
    ],
)
def test_lists(text, layers, widths):
    assert parse(text, CONFIG) == Slice(tuple(layers), tuple(widths))


@settings(max_examples=50, deadline=None)
@given(
    widths=st.lists(st.sampled_from((64, 32, 1, 40)), min_size=10, max_size=10),
    skip=st.sets(st.integers(5, 9)),
)
def test_every_size_is_read_as_it_is_named(widths, skip):
    size = Slice.cut(CONFIG, widths[: 10 - len(skip)], skip)
    assert parse(sizes.name(size, CONFIG), CONFIG) == size


def test_names_are_short():
    assert sizes.name(Slice.cut(CONFIG, 64), CONFIG) == "full"
    assert sizes.name(Slice.cut(CONFIG, 32), CONFIG) == "half"
    widths = (24, 24, 24, 24, 64, 24, 24)
    assert sizes.name(Slice.cut(CONFIG, widths, (5, 6, 8)), CONFIG) == "24,4=64,5-6=skip,8=skip"


def test_a_json_file(tmp_path):
    path = tmp_path / "small.json"
    path.write_text('{"ffn": [24, 24, 24, 24, 64, 24, 24], "skip": [5, 6, 7]}')
    assert parse(str(path), CONFIG) == parse("24,4=64,5-7=skip", CONFIG)
    path.write_text('{"ffn": 24}')
    assert parse(str(path), CONFIG) == parse("24", CONFIG)
    path.write_text('{"skip": [7]}')
    assert parse(str(path), CONFIG) == parse("7=skip", CONFIG)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "not JSON"),
        ("[1]", "must hold"),
        ('{"ffn": "24"}', "must hold"),
        ('{"ffn": [24, true, 24]}', "must hold"),
        ('{"skip": 3}', "must hold"),
        ('{"skip": ["3"]}', "must hold"),
        ('{"fnn": 24}', "must hold"),
        ('{"ffn": [24]}', "1 FFN widths for 10 layers"),
        ('{"skip": [10]}', "no layer 10"),
    ],
)
def test_a_json_file_that_says_no_size(tmp_path, content, message):
    path = tmp_path / "size.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SizeError, match=message) as caught:
        parse(str(path), CONFIG)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "config", "message"),
    [
        ("E3B", E4B, r"unknown size 'E3B': choose E4B, E3.79B-layer, .*, full, half, or give FFN"),
        ("", CONFIG, "unknown size '': choose full, half, or give"),
        ("24;5=skip", CONFIG, "unknown size"),
        ("²", CONFIG, "unknown size"),
        ("24,", CONFIG, "unknown size"),
        ("E2B", CONFIG, "no size 'E2B', which is cut from E4B: choose full, half"),
        ("E1.96B-layer", E2B, "which is cut from E4B: choose E2B, full, half"),
        ("8192,18=skip", E4B, "layer 18 cannot be skipped: layers 20-23"),
        ("16385", E4B, r"FFN width of layer 0 must lie in \[1, 16384\], got 16385"),
        ("0", CONFIG, "got 0"),
        ("10=24", CONFIG, "no layer 10: the model's are 0-9"),
        ("0-99999999999=1", CONFIG, "no layer 99999999999"),
        ("7-5=skip", CONFIG, "FIRST-LAST=skip"),
        ("skip", CONFIG, "FIRST-LAST=skip"),
        ("0-9=skip", CONFIG, "at least one layer"),
    ],
)
def test_what_is_no_size_is_refused_in_one_line(text, config, message):
    with pytest.raises(SizeError, match=message) as caught:
        parse(text, config)
    assert "\n" not in str(caught.value)


def test_published_sizes_are_whole():
    for name, published in PUBLISHED.items():
        layers = 35 - len(published.skip)
        assert len(published.units.replace(" ", "")) == layers == len(published.size.layers), name
        assert json.dumps(published.effective_billions) in name or name in (
            "E4B",
            "E2B",
            "E3.79B-block",
        )
