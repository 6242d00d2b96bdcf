"""A slice written as a folder: transformers, this project's loader, and the elastic run agree."""

import json
import shutil
import stat
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma3nForConditionalGeneration

from dragoman.decoder import Slice
from dragoman.errors import CheckpointError
from dragoman.models import sizes
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.shards import Part
from dragoman.models.slicing import parts_of, write_slice
from tests.nano_like import read_config

LM = "model.language_model."
# Of six layers 0-2 own their keys and values; 3 and 4 slide and read 1, 5 is full and reads 2.
SIZES = ["half", "64,0=24,3=8,4=skip", "40,0=skip,3=skip,4=64"]
IDS = torch.randint(0, 400, (2, 21), generator=torch.Generator().manual_seed(5))


def sliced(folder: Path, target: Path, text: str, **options) -> Path:
    checkpoint = Checkpoint.open(str(folder))
    write_slice(checkpoint, sizes.parse(text, checkpoint.text_config), target, **options)
    return target


@torch.no_grad()
def logits(folder: Path, size: Slice | None = None) -> torch.Tensor:
    model = Checkpoint.open(str(folder)).language_model(torch.float32)
    return model(model.embed(IDS), IDS, size=size)


@pytest.mark.parametrize("text", SIZES)
@torch.no_grad()
def test_transformers_and_the_elastic_run_give_the_same_logits(seeing_folder, tmp_path, text):
    target = sliced(seeing_folder, tmp_path / "small", text)
    whole = Checkpoint.open(str(seeing_folder)).text_config
    elastic = logits(seeing_folder, sizes.parse(text, whole))
    torch.testing.assert_close(logits(target), elastic, atol=1e-5, rtol=0.0)
    theirs, report = cast(
        tuple[Any, Any],
        Gemma3nForConditionalGeneration.from_pretrained(
            target, dtype=torch.float32, output_loading_info=True
        ),
    )
    assert not any(report.values()), report
    torch.testing.assert_close(theirs.eval()(input_ids=IDS).logits, elastic, atol=1e-4, rtol=0.0)
    assert not torch.allclose(elastic, logits(seeing_folder), atol=1e-2)


def test_the_folder_holds_what_it_should(seeing_folder, tmp_path):
    model = Path(shutil.copytree(seeing_folder, tmp_path / "model"))
    (model / "LICENSE").write_text("mine")
    (model / "README.md").write_text("about the whole model")
    (model / "training.log").write_text("long")
    target = sliced(model, tmp_path / "small", "64,0=24,3=8,4=skip")
    assert sorted(path.name for path in target.iterdir()) == [
        *("LICENSE", "config.json", "model.safetensors", "preprocessor_config.json"),
        "tokenizer.json",
    ]
    assert (target / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()
    assert stat.S_IMODE(target.stat().st_mode) == 0o755
    before, after = read_config(model), read_config(target)
    assert after["text_config"] == before["text_config"] | {
        "num_hidden_layers": 5,
        "num_kv_shared_layers": 2,
        "intermediate_size": [24, 64, 64, 8, 64],
        "layer_types": ["sliding_attention"] * 2 + ["full_attention", "sliding_attention"]
        + ["full_attention"],
        "activation_sparsity_pattern": [0.9, 0.0, 0.0, 0.0, 0.0],
    }  # fmt: skip
    assert after | {"text_config": 0} == before | {"text_config": 0}


def test_tensors_are_these_parts_of_the_old_ones(seeing_folder, tmp_path):
    """In the types they were stored in, bit by bit."""
    target = sliced(seeing_folder, tmp_path / "small", "64,0=24,3=8,4=skip")
    old, new = (load_file(f / "model.safetensors") for f in (seeing_folder, target))
    P, table = 8, old[LM + "embed_tokens_per_layer.weight"]
    expected = {name: tensor for name, tensor in old.items() if f"{LM}layers." not in name}
    expected[LM + "embed_tokens_per_layer.weight"] = torch.cat(
        (table[:, : 4 * P], table[:, 5 * P :]), dim=1
    )
    projection = old[LM + "per_layer_model_projection.weight"]
    expected[LM + "per_layer_model_projection.weight"] = torch.cat(
        (projection[: 4 * P], projection[5 * P :])
    )
    for i, layer in enumerate((0, 1, 2, 3, 5)):
        start = f"{LM}layers.{layer}."
        for name in filter(lambda name: name.startswith(start), old):
            expected[f"{LM}layers.{i}.{name.removeprefix(start)}"] = old[name]
    for i, width in ((0, 24), (3, 8)):
        for name in ("gate_proj", "up_proj"):
            key = f"{LM}layers.{i}.mlp.{name}.weight"
            expected[key] = expected[key][:width]
        key = f"{LM}layers.{i}.mlp.down_proj.weight"
        expected[key] = expected[key][:, :width]
    assert set(new) == set(expected)
    for name, tensor in expected.items():
        assert new[name].dtype == torch.bfloat16 and torch.equal(new[name], tensor), name


def test_unused_keys_and_values_are_carried_along(tiny_folder, tmp_path):
    """Official files have them for KV-shared layers; float32 beside bf16 is no trouble either."""
    model = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    tensors = load_file(model / "model.safetensors")
    for layer in (4, 5):
        tensors[f"{LM}layers.{layer}.self_attn.k_norm.weight"] = torch.full((16,), float(layer))
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    target = sliced(model, tmp_path / "small", "32,4=skip")
    written = load_file(target / "model.safetensors")
    assert written[f"{LM}layers.4.self_attn.k_norm.weight"].tolist() == [5.0] * 16
    size = sizes.parse("32,4=skip", Checkpoint.open(str(tiny_folder)).text_config)
    torch.testing.assert_close(logits(target), logits(tiny_folder, size), atol=1e-5, rtol=0.0)


def test_shards_stay_below_their_limit_and_have_an_index(tiny_folder, tmp_path):
    limit = 20_000
    target = sliced(tiny_folder, tmp_path / "small", "half", shard_bytes=limit)
    whole = load_file(sliced(tiny_folder, tmp_path / "one", "half") / "model.safetensors")
    index = json.loads((target / "model.safetensors.index.json").read_text())
    files = sorted(target.glob("*.safetensors"))
    assert (
        len(files) > 3 and files[-1].name == f"model-{len(files):05}-of-{len(files):05}.safetensors"
    )
    found = {}
    for file in files:
        inside = load_file(file)
        assert sum(t.nbytes for t in inside.values()) <= limit or len(inside) == 1
        assert all(index["weight_map"][name] == file.name for name in inside)
        found |= inside
    assert {name: t.tolist() for name, t in found.items()} == {
        n: t.tolist() for n, t in whole.items()
    }
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in whole.values())
    assert torch.equal(logits(target), logits(tmp_path / "one"))


def test_pieces_are_small_whatever_the_tensor(tiny_folder):
    """Cut to 300 bytes a read, rows and columns come out the same, and no piece is larger."""
    checkpoint = Checkpoint.open(str(tiny_folder))
    size = sizes.parse("64,0=24,3=8,4=skip", checkpoint.text_config)
    for name, part in parts_of(checkpoint, size).items():
        pieces = list(part.pieces(300))
        row = part.stored.bytes // (part.stored.shape or (1,))[0]
        assert all(piece.nbytes <= max(300, row) for piece in pieces), name
        assert len(pieces) > 1 or part.bytes <= max(300, row)
        bits = b"".join(piece.tobytes() for piece in pieces)
        assert bits == b"".join(piece.tobytes() for piece in part.pieces())
        assert part.bytes == len(bits) == 2 * torch.Size(part.shape).numel()


def test_progress_ends_at_the_total(tiny_folder, tmp_path):
    told = []
    sliced(tiny_folder, tmp_path / "small", "half", progress=lambda *pair: told.append(pair))
    totals = {total for _, total in told}
    assert len(totals) == 1 and told[-1][0] == totals.pop()
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_slice_of_a_slice(tiny_folder, tmp_path):
    target = sliced(sliced(tiny_folder, tmp_path / "one", "4=skip"), tmp_path / "two", "half")
    size = sizes.parse("32,4=skip", Checkpoint.open(str(tiny_folder)).text_config)
    torch.testing.assert_close(logits(target), logits(tiny_folder, size), atol=1e-5, rtol=0.0)


def test_nothing_is_left_behind_by_what_fails(tiny_folder, tmp_path, monkeypatch):
    target, pieces = tmp_path / "small", Part.pieces

    def fails(self, *args):
        if "layers.3" in self.stored.name:
            raise OSError(28, "No space left on device")
        return pieces(self, *args)

    monkeypatch.setattr(Part, "pieces", fails)
    with pytest.raises(OSError, match="No space left"):
        sliced(tiny_folder, target, "half")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_touched(tiny_folder, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="exists already: give the name of a new folder"):
        sliced(tiny_folder, tmp_path, "half")
    with pytest.raises(CheckpointError, match="exists already"):
        sliced(tiny_folder, tiny_folder, "half")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_is_too_full_is_known_before(tiny_folder, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(CheckpointError, match=r"0\.0 GB left, and the model needs 0\.0 GB"):
        sliced(tiny_folder, tmp_path / "small", "half")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop(LM + "layers.4.mlp.up_proj.weight"), "missing tensors .*layers.4.mlp.up"),
        (
            lambda t: t.update({LM + "layers.0.mlp.up_proj.weight_scale": torch.ones(64)}),
            "surplus tensors .*weight_scale",
        ),
        (
            lambda t: t.update({LM + "layers.0.mlp.up_proj.weight": torch.ones(32, 32)}),
            r"shapes differ .*\[32, 32\], not \[64, 32\]",
        ),
    ],
)
def test_a_model_that_is_not_whole_is_refused_before_anything_is_written(
    tiny_folder, tmp_path, edit, message
):
    model = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    tensors = load_file(model / "model.safetensors")
    edit(tensors)
    save_file(tensors, model / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        sliced(model, tmp_path / "small", "half")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_quantized_model_is_refused(tiny_folder, tmp_path):
    model = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    config = read_config(model) | {"quantization_config": {"layers": "int8"}}
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="is quantized: slice the original weights"):
        sliced(model, tmp_path / "small", "half")


def test_a_file_that_is_cut_short_meanwhile(tiny_folder, tmp_path):
    model = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    checkpoint = Checkpoint.open(str(model))
    with (model / "model.safetensors").open("rb+") as file:
        file.truncate(9_000)
    with pytest.raises(CheckpointError, match="became shorter while it was read"):
        write_slice(checkpoint, Slice.whole(checkpoint.text_config), tmp_path / "small")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_whole_is_the_same_model(tiny_folder, tmp_path):
    target = sliced(tiny_folder, tmp_path / "same", "full")
    old, new = (load_file(f / "model.safetensors") for f in (tiny_folder, target))
    assert set(old) == set(new) and all(torch.equal(old[name], new[name]) for name in old)
