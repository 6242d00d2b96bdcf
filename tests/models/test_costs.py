"""Counts against the model itself, and against what is published."""

import dataclasses
from pathlib import Path

import pytest
import torch

from dragoman.decoder import LanguageModel, TextConfig, unused_tensor_names
from dragoman.decoder.quantize import Scheme, quantize
from dragoman.models.costs import Group, cost, on_disk
from dragoman.models.quantized import HEADS
from dragoman.models.reading import Stored
from dragoman.models.sizes import E4B, PUBLISHED
from tests.decoder.helpers import CONFIG
from tests.parts import layer

E2B = PUBLISHED["E2B"].size.config(E4B)


@pytest.mark.parametrize(
    "config",
    [
        E4B,
        E2B,
        PUBLISHED["E1.96B-layer"].size.config(E4B),
        CONFIG,
        dataclasses.replace(CONFIG, num_kv_shared_layers=0, altup_num_inputs=1, laurel_rank=9),
    ],
)
def test_counts_are_those_of_the_model(config):
    with torch.device("meta"):
        model = LanguageModel(config)
    held = sum(parameter.numel() for parameter in model.parameters())
    table = model.embed_tokens_per_layer.weight.numel()
    found = cost(config)
    assert (found.resident, found.table) == (held - table, table)
    assert found.table_row * config.vocab_size_per_layer_input == table
    owner = layer(model, 0).self_attn
    unused = len(unused_tensor_names(config)) // 3
    each = sum(p.numel() for n, p in owner.named_parameters() if n[:2] in ("k_", "v_"))
    assert found.parameters == held + unused * each
    assert found.effective == found.parameters - table - model.embed_tokens.weight.numel()


def test_parameters_of_the_official_sizes():
    assert (cost(E4B).parameters, cost(E2B).parameters) == (6_866_696_688, 4_456_156_768)
    assert (cost(E4B).effective, cost(E2B).effective) == (3_980_491_248, 1_905_495_648)


@pytest.mark.parametrize("name", PUBLISHED)
def test_effective_parameters_are_near_the_published(name):
    """To the last digit at both ends; in between the publisher's are up to 0.02 B larger."""
    published = PUBLISHED[name]
    found = cost(published.size.config(E4B)).effective / 1e9
    assert abs(found - published.effective_billions) < (0.006 if name in ("E4B", "E2B") else 0.02)


def test_arithmetic_and_memory_of_the_official_sizes():
    for config, prefill_all, prefill, decode, memory in (
        (E2B, 3.77, 2.41, 4.84, (9.69, 4.84, 3.70, 2.47, 1.62)),
        (E4B, 7.90, 4.32, 8.97, (17.95, 8.97, 6.85, 4.57, 2.78)),
    ):
        found = cost(config)
        assert round(found.prefill_all / 1e9, 2) == prefill_all
        assert round(found.prefill / 1e9, 2) == prefill
        assert round(found.decode / 1e9, 2) == decode
        assert tuple(found.memory_bytes) == ("float32", "bf16", "bf12", "int8", "int4")
        assert tuple(round(count / 1e9, 2) for count in found.memory_bytes.values()) == memory
        assert found.cache_bytes == 40 * 1024
    assert (cost(E2B).table_row * 2, cost(E4B).table_row * 2) == (15 * 1024, 35 * 512)


@pytest.mark.parametrize("form", ["bf12", "int8", "int4"])
@pytest.mark.parametrize("config", [E2B, CONFIG, dataclasses.replace(CONFIG, hidden_size=160)])
def test_quantized_memory_is_what_the_quantized_model_holds(config, form):
    with torch.device("meta"):
        model = quantize(LanguageModel(config).bfloat16(), Scheme(form, HEADS[form]))
    held = [*model.parameters(), *model.buffers()]
    table = model.embed_tokens_per_layer.weight.nbytes
    assert cost(config).memory_bytes[form] == sum(tensor.nbytes for tensor in held) - table


def test_prefill_is_what_the_model_multiplies():
    """Counted by torch, for a prompt whose last position alone is wanted, and less what that one
    costs."""
    from torch.utils.flop_counter import FlopCounterMode

    config = dataclasses.replace(CONFIG, hidden_size=256, intermediate_size=512)
    model = LanguageModel(config).eval()

    def flop(run, *args) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run(*args)
        linear = counter.get_flop_counts()["Global"]
        return sum(n for op, n in linear.items() if "mm" in str(op))

    ids = torch.zeros(1, 33, dtype=torch.long)
    embeddings = model.embed(ids)
    all_layers = flop(lambda: model(embeddings, ids)) / 33
    head = 2 * config.vocab_size * config.hidden_size
    assert all_layers - head == pytest.approx(cost(config).prefill_all, rel=0.02)
    assert all_layers == pytest.approx(cost(config).decode, rel=0.02)
    skipping = flop(lambda: model.extend(embeddings, ids, model.new_cache())) / 33
    assert skipping == pytest.approx(cost(config).prefill, rel=0.02)


def test_groups_on_disk():
    def stored(name: str, dtype: str, *shape: int) -> Stored:
        length = torch.Size(shape).numel() * (4 if dtype == "F32" else 2)
        return Stored(name, Path("x"), dtype, shape, 8, 8 + length)

    names = {
        "model.language_model.norm.weight": ("F32", 3),
        "model.language_model.embed_tokens.weight": ("BF16", 5, 3),
        "model.language_model.embed_tokens_per_layer.weight": ("BF16", 7, 2),
        "model.vision_tower.timm_model.conv.weight": ("BF16", 2, 2, 3, 3),
    }
    assert on_disk({name: stored(name, *rest) for name, rest in names.items()}) == [
        Group("language_model", 2, 18, 42, ("BF16", "F32")),
        Group("per_layer_table", 1, 14, 28, ("BF16",)),
        Group("vision_tower", 1, 36, 72, ("BF16",)),
    ]


def test_a_model_of_one_layer():
    config = TextConfig(
        vocab_size=4, vocab_size_per_layer_input=4, num_hidden_layers=1, num_kv_shared_layers=0
    )
    assert cost(config).prefill < cost(config).prefill_all
