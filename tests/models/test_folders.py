"""Folders of every kind that people have: they load, or are called by their names."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dragoman.errors import CheckpointError
from dragoman.models import derived, hub
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.reading import GROUPS
from tests.models import variants
from tests.models.variants import LM

Q, UP = "self_attn.q_proj", "mlp.up_proj"
AUDIO_Q = "attention.attn.q_proj"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def loaded(folder: Path | str) -> dict[str, torch.Tensor]:
    """The weights of all modules by their official names."""
    checkpoint = Checkpoint.open(str(folder))
    modules = {
        "language_model": checkpoint.language_model(torch.bfloat16),
        "audio_tower": checkpoint.audio_encoder(torch.bfloat16),
        "embed_audio": checkpoint.embedder("audio", torch.bfloat16),
    }
    if checkpoint.has_vision:
        modules["vision_tower"] = checkpoint.vision_tower(torch.bfloat16)
    return {
        GROUPS[group] + name: tensor
        for group, module in modules.items()
        for name, tensor in module.state_dict().items()
    }


def refused(folder: Path | str) -> str:
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.open(str(folder))
    return str(caught.value)


def test_an_mlx_folder_is_the_same_model(seeing_folder, tmp_path):
    """Other names, and convolutions with their channels last."""
    folder = variants.mlx(seeing_folder, tmp_path / "mlx")
    found, expected = loaded(folder), loaded(seeing_folder)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_quantized_mlx_folder_is_read_as_ordinary_weights(tiny_folder, tmp_path, cache, bits):
    folder = variants.mlx(tiny_folder, tmp_path / "mlx", bits)
    theirs, found = load_file(folder / "model.safetensors"), loaded(folder)
    quantized = [name.removesuffix(".scales") for name in theirs if name.endswith(".scales")]
    assert {"language_model.model.embed_tokens", f"language_model.model.layers.0.{UP}"} <= set(
        quantized
    )
    for module in quantized:
        parts = {p: theirs[f"{module}.{p}"] for p in ("weight", "scales", "biases")}
        ours = LM + module.removeprefix("language_model.model.") + ".weight"
        if ours in found:  # not those of layers that read another's keys
            assert torch.equal(found[ours], variants.dequantized(parts, bits))
    assert Checkpoint.open(str(folder)).scheme() is None, "any --dtype may be made of it"
    (kept,) = (cache / "dragoman" / "models").glob("*.safetensors")
    before = kept.stat().st_ino
    loaded(folder)
    assert kept.stat().st_ino == before, "it is made once"


def test_mlx_weights_of_other_forms_are_called_by_their_names(tiny_folder, tmp_path):
    folder = variants.mlx(tiny_folder, tmp_path / "mlx", 4)
    for said, message in (
        ({"bits": 3, "group_size": 32}, "in mode 'affine' with 3 bits, expected affine with 2, 4"),
        ({"bits": 4, "group_size": 32, "mode": "mxfp4"}, "in mode 'mxfp4' with 4 bits"),
        ({"bits": 8, "group_size": 32}, "which do not fit"),
    ):
        variants.edit(folder / "config.json", quantization=said)
        assert message in refused(folder)


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 6 / 3),
        ({"use_rslora": True}, 6 / 3**0.5),
        ({"alpha_pattern": {Q: 12}}, 6 / 3),
        ({"init_lora_weights": "gaussian", "modules_to_save": None, "inference_mode": True}, 2),
    ],
)
def test_an_adapter_is_merged_into_its_base(tiny_folder, tmp_path, config, scale):
    modules = (Q, UP, AUDIO_Q)
    halves = variants.adapter(tiny_folder, tmp_path / "lora", modules, **config)
    assert {name.split(".")[1] for name in halves} == {"language_model", "audio_tower"}
    found, base = loaded(tmp_path / "lora"), loaded(tiny_folder)
    assert found.keys() == base.keys()
    for name, tensor in base.items():
        expected = tensor
        if name in halves:
            up, down = halves[name]
            own = 12 / 3 if "alpha_pattern" in config and Q in name else scale
            expected = (tensor.float() + own * (up @ down)).bfloat16()
            assert not torch.equal(found[name], tensor)
        torch.testing.assert_close(found[name], expected, rtol=2**-8, atol=0)


def test_only_what_an_adapter_changes_is_made(tiny_folder, tmp_path, cache):
    halves = variants.adapter(tiny_folder, tmp_path / "lora", (Q,))
    tensors = Checkpoint.open(str(tmp_path / "lora")).tensors
    (kept,) = (cache / "dragoman" / "models").glob("*.safetensors")
    assert {name for name, stored in tensors.items() if stored.file == kept} == set(halves)
    assert {stored.file for stored in tensors.values()} == {kept, tiny_folder / "model.safetensors"}


def test_an_adapter_over_a_base_of_ones_choice(tiny_folder, tmp_path):
    """Also where it names one that is not there, or a quantized copy of the real one."""
    variants.adapter(tiny_folder, tmp_path / "lora", (Q,))
    expected = loaded(tmp_path / "lora")
    variants.edit(tmp_path / "lora" / "adapter_config.json", base_model_name_or_path="gone")
    assert "no model at 'gone'" in refused(tmp_path / "lora")
    found = loaded(f"{tiny_folder}+{tmp_path / 'lora'}")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    copy = tmp_path / "model-unsloth-bnb-4bit"
    shutil.copytree(tiny_folder, tmp_path / "model")
    variants.edit(tmp_path / "lora" / "adapter_config.json", base_model_name_or_path=str(copy))
    assert hub.base(tmp_path / "lora") == tmp_path / "model"
    assert "not an adapter" in refused(f"{tiny_folder}+{tiny_folder}")


def test_an_adapter_over_an_mlx_folder_with_names_of_an_older_transformers(tiny_folder, tmp_path):
    mlx = variants.mlx(tiny_folder, tmp_path / "mlx")
    halves = variants.adapter(tiny_folder, tmp_path / "lora", (Q,))
    path = tmp_path / "lora" / "adapter_model.safetensors"
    renamed = {
        name.replace("model.language_model.", "language_model.model.").replace(
            "lora_A.", "lora_A.default."
        ): tensor
        for name, tensor in load_file(path).items()
    }
    save_file(renamed, path)
    found, base = loaded(f"{mlx}+{tmp_path / 'lora'}"), loaded(tiny_folder)
    changed = {name for name in base if not torch.equal(found[name], base[name])}
    assert changed == set(halves)


def test_a_module_that_was_trained_whole_replaces_the_bases(tiny_folder, tmp_path):
    variants.adapter(tiny_folder, tmp_path / "lora", (Q,))
    path = tmp_path / "lora" / "adapter_model.safetensors"
    name = "model.embed_audio.embedding_projection.weight"
    own = torch.randn_like(load_file(tiny_folder / "model.safetensors")[name])
    save_file(load_file(path) | {f"base_model.model.{name}": own}, path)
    assert torch.equal(loaded(tmp_path / "lora")[name], own)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"use_dora": True}, "use_dora is True, merged is only False: merge the adapter with PEFT"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3', merged is only 'LORA'"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"init_lora_weights": "pissa_niter_16"}, "changed the base model as well"),
        ({"r": None}, "r is None, expected a positive number"),
        ({"base_model_name_or_path": None}, "names no base_model_name_or_path"),
    ],
)
def test_adapters_of_other_kinds_are_refused_by_name(tiny_folder, tmp_path, config, message):
    variants.adapter(tiny_folder, tmp_path / "lora", (Q,), **config)
    assert message in refused(tmp_path / "lora")


def test_an_adapter_that_does_not_fit_is_refused(tiny_folder, tmp_path):
    variants.adapter(tiny_folder, tmp_path / "lora", (Q,))
    path = tmp_path / "lora" / "adapter_model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if "lora_A" in name)
    save_file(tensors | {name: tensors[name][:, 1:].contiguous()}, path)
    assert re.search(r"q_proj.weight is \[.*\] of BF16 .* does not fit", refused(path.parent))
    save_file(tensors | {"base_model.model.x.lora_A.weight": torch.ones(3, 3)}, path)
    assert "nothing in the base model for x" in refused(path.parent)
    path.unlink()
    assert "the adapter's weights are missing" in refused(path.parent)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("gemma-3n-E2B-it-Q4_K_M.gguf", "a GGUF file, of llama.cpp; it is not read here"),
        ("gemma-3n-E2B-it-int4.litertlm", "a LiteRT model"),
        ("gemma-3n-E2B-it-int4.task", "a LiteRT model"),
        ("decoder.onnx", "an ONNX model"),
        ("pytorch_model.bin", "a file in torch's own format"),
    ],
)
@pytest.mark.parametrize("with_config", [True, False])
def test_folders_of_other_runtimes_are_called_by_their_names(
    tiny_folder, tmp_path, name, kind, with_config
):
    folder = variants.copied(tiny_folder, tmp_path / "other")
    if not with_config:
        (folder / "config.json").unlink()
    (folder / name).write_bytes(b"x")
    for said in (refused(folder), refused(folder / name)):
        assert f"{folder / name} is {kind}" in said and "take the original weights" in said


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "compressed-tensors", "torchao"])
def test_weights_that_others_quantized_are_called_by_their_names(tiny_folder, tmp_path, method):
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "other"))
    variants.edit(folder / "config.json", quantization_config={"quant_method": method})
    assert f"weights quantized by {method} are not read here: take the original" in refused(folder)


def test_a_cache_that_cannot_be_written_says_so(tiny_folder, tmp_path, cache, monkeypatch):
    variants.adapter(tiny_folder, tmp_path / "lora", (Q,))
    cache.write_text("no folder")
    assert "set XDG_CACHE_HOME to a folder with room" in refused(tmp_path / "lora")
    cache.unlink()
    monkeypatch.setattr(derived.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    assert "0.0 GB left" in refused(tmp_path / "lora")
    assert json.loads((tmp_path / "lora" / "adapter_config.json").read_text())["r"] == 3
