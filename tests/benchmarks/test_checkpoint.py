"""A random checkpoint is a whole model folder, for us and for transformers."""

import json
import shutil
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from safetensors import safe_open
from transformers import Gemma3nForConditionalGeneration

from benchmarks import checkpoint
from benchmarks.checkpoint import SIZES, ensure, shapes, split
from benchmarks.context import Bench
from benchmarks.text import prompt
from benchmarks.vocabulary import Layout, vocabulary
from dragoman.models import prompt as prompts
from dragoman.models.checkpoint import Checkpoint
from tests.benchmarks.conftest import BLOCK


def tensors(folder):
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return found


def test_transformers_finds_every_tensor(folder):
    _, info = cast(
        tuple[Any, Any],
        Gemma3nForConditionalGeneration.from_pretrained(folder, output_loading_info=True),
    )
    assert not info["missing_keys"] and not info["mismatched_keys"]
    assert all(".self_attn." in name for name in info["unexpected_keys"])


def test_both_sides_compute_the_same(bench: Bench):
    """Same weights, same logits, up to the rounding of bf16: otherwise their speeds could not be
    compared."""
    ours, theirs = bench.model("E2B"), bench.peer("E2B")
    ids = prompt(ours, 40)
    mine = ours.prefill(ours.embed(ids), ids, ours.new_cache())
    other = theirs.text(ids, theirs.new_cache()).float()
    assert mine.isfinite().all() and mine.std() > 0
    apart = float((mine - other).square().mean().sqrt() / other.std())
    assert apart < 0.05
    assert other[0, mine.argmax()] >= other.max() - 0.05 * float(mine.std())


def test_all_groups_load(folder):
    found = Checkpoint.open(str(folder))
    assert found.has_vision
    for load in (found.language_model, found.audio_encoder, found.vision_tower):
        assert load(torch.bfloat16) is not None
    found.embedder("audio")
    found.embedder("vision")


def test_values_are_small_and_rows_differ(folder):
    for name, tensor in tensors(folder).items():
        if tensor.dim() < 2:
            assert (tensor == 1).all(), name
        else:
            assert tensor.float().abs().max() < 0.2, name
    table = tensors(folder)["model.language_model.embed_tokens.weight"]
    assert len(table.unique(dim=0)) == len(table)


def test_an_interrupted_run_goes_on(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    whole = {path.name: path.read_bytes() for path in copy.iterdir()}
    (copy / "config.json").unlink()
    lost = sorted(copy.glob("*.safetensors"))[1]
    lost.unlink()
    kept = sorted(copy.glob("*.safetensors"))[0]
    kept.write_bytes(b"not touched")
    ensure(SIZES["tiny"], copy, BLOCK, 2**20)
    assert kept.read_bytes() == b"not touched"
    assert lost.read_bytes() == whole[lost.name]
    assert (copy / "config.json").read_bytes() == whole["config.json"]
    assert not list(copy.glob("*.partial"))


def test_a_full_disk_is_an_error_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "free_bytes", lambda _: 10**6)
    with pytest.raises(OSError, match="needs 0.0 GB and the disk has 0.0 GB left: make room"):
        ensure(SIZES["tiny"], tmp_path / "new", BLOCK)
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize(("name", "text"), [("E2B", 4.456e9), ("E4B", 6.867e9)])
def test_true_sizes(name, text):
    counts = dict.fromkeys(("language_model", "audio_tower", "vision_tower"), 0)
    for tensor, shape in shapes(SIZES[name]).items():
        for group in counts:
            counts[group] += shape.numel() if tensor.startswith(f"model.{group}.") else 0
    assert counts["language_model"] == pytest.approx(text, rel=1e-3)
    assert counts["audio_tower"] == pytest.approx(0.681e9, rel=1e-3)
    assert counts["vision_tower"] == pytest.approx(0.294e9, rel=1e-3)


def test_shards_are_bounded_and_hold_everything():
    sizes = {"a": torch.Size([100]), "b": torch.Size([500]), "c": torch.Size([10])}
    shards = split(sizes, 300)
    assert [list(shard) for shard in shards] == [["a"], ["b"], ["c"]]
    assert {name for shard in split(sizes, 10_000) for name in shard} == set(sizes)


def test_the_official_special_ids():
    found = vocabulary(Layout())
    assert sorted(found.values()) == list(range(262_400))
    official = {
        "<bos>": 2, "<eos>": 1, "<start_of_image>": 255_999, "<start_of_audio>": 256_000,
        "<end_of_image>": 262_144, "<image_soft_token>": 262_145, "<end_of_audio>": 262_272,
        "<audio_soft_token>": 262_273,
    }  # fmt: skip
    assert {name: found[name] for name in official} == official


def test_prompts_are_as_short_as_they_should_be_and_words_decode(folder):
    tokenizer = Checkpoint.open(str(folder)).tokenizer
    before = prompts.build(tokenizer, "es", "en").before
    assert len(before) < 25
    assert tokenizer.decode(list(before)).startswith("user\nTranscribe the following speech")
    assert tokenizer.decode([900, 901]).startswith(" ")
    assert tokenizer.decode(tokenizer.encode("ñandú")) == "ñandú"


def test_a_vocabulary_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="of 300 is too small: give at least 1024"):
        vocabulary(Layout(text=300, rows=8))


def test_config_names_the_same_ids_as_the_tokenizer(folder):
    config = json.loads((folder / "config.json").read_text())
    tokenizer = Checkpoint.open(str(folder)).tokenizer
    assert config["audio_token_id"] == tokenizer.special("<audio_soft_token>")
    assert config["text_config"]["vocab_size"] == tokenizer.vocab_size
    assert replace(SIZES["E2B"].text).ffn_widths == (8192,) * 30
