"""Weights in bf12: the same bits in memory and in folders, and folders that are refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dragoman.decoder import storage
from dragoman.decoder.quantize import QuantizedLinear, QuantizedTokenTable, Scheme
from dragoman.errors import CheckpointError
from dragoman.models import quantized
from dragoman.models.catalogue import describe
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.hub import find
from dragoman.models.quantizing import write_quantized
from tests.models.test_quantizing import logits, written
from tests.models.test_weights import mapped_regions
from tests.parts import layer

LM, TOWER = "model.language_model.", "model.audio_tower."
TWELVE = Scheme("bf12", "bf12", "bf12")
ODD = f"{LM}layers.1.mlp.up_proj.weight"  # a row of it leaves many weights out
ODD_TOO = f"{TOWER}conformer.0.ffw_layer_start.ffw_layer_2.weight"
MADE = "quantized-00001.safetensors"


def spread(count: int) -> Tensor:
    """Weights of all magnitudes and both signs, zeros among them."""
    bits = torch.arange(count) * 32749 % 0x7F80 + torch.arange(count) % 2 * 0x8000
    return bits.to(torch.uint16).view(torch.bfloat16)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """The bundled model with odd rows; read only."""
    folder = tmp_path_factory.mktemp("packed") / "nano"
    shutil.copytree(find("nano"), folder)
    tensors = load_file(folder / "model.safetensors")
    for name in (ODD, ODD_TOO):
        tensors[name][3] = spread(tensors[name].shape[1])
        tensors[name][4] = 0
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def packed(original) -> Path:
    """The same written in bf12; read only."""
    return written(original, original.with_name("bf12"), TWELVE)


@pytest.fixture
def copy(packed, tmp_path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "copy"))


def bits(tensor: Tensor) -> Tensor:
    return tensor.view(torch.int16)


def matrices(module: nn.Module) -> dict[str, QuantizedLinear | QuantizedTokenTable]:
    return {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, QuantizedLinear | QuantizedTokenTable)
    }


def unpacked(part: QuantizedLinear | QuantizedTokenTable) -> Tensor:
    return storage.unpacked(part.form, part.weight, part.scale, torch.bfloat16)


def check_the_same_bits(module: nn.Module, prefix: str, whole: dict[str, Tensor]) -> None:
    """Every weight of a module is what the original file has, packed or as it is."""
    found = matrices(module)
    assert {part.form for part in found.values()} == {"bf12"}
    for name, part in found.items():
        assert torch.equal(bits(unpacked(part)), bits(whole[f"{prefix}{name}.weight"])), name
    for name, parameter in module.named_parameters():
        assert torch.equal(bits(parameter), bits(whole[prefix + name])), name
    left = {f"{name}.weight" for name in found} | {name for name, _ in module.named_parameters()}
    assert {prefix + name for name in left} == {name for name in whole if name.startswith(prefix)}


def test_nothing_is_lost(original, packed):
    whole = load_file(original / "model.safetensors")
    for folder, form in ((packed, "auto"), (packed, "bf12"), (original, "bf12")):
        checkpoint = Checkpoint.open(str(folder))
        assert checkpoint.scheme(form) == TWELVE and checkpoint.audio_form(form) == "bf12"
        scheme = checkpoint.scheme(form)
        model = checkpoint.language_model(torch.bfloat16, scheme=scheme)
        tower = checkpoint.audio_encoder(torch.bfloat16, form=checkpoint.audio_form(form))
        check_the_same_bits(model, LM, whole)
        check_the_same_bits(tower, TOWER, whole)
        odd = tower.get_submodule(ODD_TOO.removeprefix(TOWER).removesuffix(".weight"))
        assert isinstance(odd, QuantizedLinear) and odd.scale.shape[1] > 64
        assert layer(model, 1).mlp.up_proj.get_buffer("scale").shape[1] > 64
        assert layer(model, 2).mlp.up_proj.get_buffer("scale").shape[1] == 64
        # Rows of 16 numbers are no groups of 128.
        assert isinstance(model.layers[0].per_layer_projection, nn.Linear)
        assert isinstance(model.embed_tokens, QuantizedTokenTable)


def test_pieces_do_not_show(original, packed, monkeypatch):
    monkeypatch.setattr(quantized, "PIECE_BYTES", 3000)
    checkpoint = Checkpoint.open(str(original))
    ours = checkpoint.language_model(scheme=TWELVE).state_dict()
    theirs = Checkpoint.open(str(packed)).language_model().state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_threads_of_torch_are_what_they_were(original):
    before = torch.get_num_threads()
    Checkpoint.open(str(original)).audio_encoder(form="bf12")
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-4), (torch.bfloat16, 0.15)])
def test_it_computes_the_same(original, packed, dtype, most):
    """Sums have another order; and in bf16 they are rounded on the way."""
    checkpoint = Checkpoint.open(str(original))
    plain = logits(checkpoint.language_model(dtype))
    for model in (
        checkpoint.language_model(dtype, scheme=TWELVE),
        Checkpoint.open(str(packed)).language_model(dtype),
    ):
        torch.testing.assert_close(logits(model), plain, atol=most, rtol=0)
    mel = torch.randn(1, 96, 128, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.inference_mode():
        expected = checkpoint.audio_encoder(dtype)(mel)
        found = Checkpoint.open(str(packed)).audio_encoder(dtype)(mel)
    torch.testing.assert_close(found, expected, atol=most, rtol=0)


def test_a_folder_is_mapped(packed):
    checkpoint = Checkpoint.open(str(packed))
    model, tower = checkpoint.language_model(torch.bfloat16), checkpoint.audio_encoder()
    regions = mapped_regions(packed / MADE)
    for part in (*matrices(model).values(), *matrices(tower).values()):
        for tensor in (part.weight, part.scale):
            assert any(tensor.data_ptr() in region for region in regions)


def test_on_another_device_only_the_per_layer_table_stays(packed):
    model = Checkpoint.open(str(packed)).language_model(torch.bfloat16, "meta")
    assert {buffer.device.type for buffer in model.buffers()} == {"meta"}


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_the_tower_of_a_quantized_model_is_packed(form, original, tmp_path):
    checkpoint = Checkpoint.open(str(original))
    assert checkpoint.scheme(form) == Scheme(form, "int8", "bf12")
    folder = written(original, tmp_path / "new", Scheme(form, "int8", "bf12"))
    whole = load_file(original / "model.safetensors")
    for opened in (checkpoint, Checkpoint.open(str(folder))):
        assert opened.audio_form(form) == "bf12"
        tower = opened.audio_encoder(torch.bfloat16, form=opened.audio_form(form))
        check_the_same_bits(tower, TOWER, whole)
    said, before = describe(Checkpoint.open(str(folder))), describe(checkpoint)
    groups = [[(g["name"], g["parameters"]) for g in d["on_disk"]] for d in (said, before)]
    assert groups[0] == groups[1] and said["bytes"] < before["bytes"]


def test_only_what_is_stored_as_bf16_is_packed_unasked(original, tmp_path):
    folder = Path(shutil.copytree(original, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    tensors = {n: t.float() if n.startswith(TOWER) else t for n, t in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    checkpoint = Checkpoint.open(str(folder))
    assert checkpoint.audio_form("int8") is None and checkpoint.audio_form("bf12") == "bf12"


def test_a_packed_tower_is_quantized_as_the_original_is(original, packed, tmp_path):
    expected = Checkpoint.open(str(original)).audio_encoder(form="int8").state_dict()
    int8 = written(original, tmp_path / "int8", Scheme("int8", "int8", "int8"))
    for folder, form in ((packed, "bf12+audio"), (int8, "int8+audio"), (int8, "auto")):
        checkpoint = Checkpoint.open(str(folder))
        assert checkpoint.audio_form(form) == "int8"
        found = checkpoint.audio_encoder(form=checkpoint.audio_form(form)).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)
    with pytest.raises(CheckpointError, match=r"audio tower of .* is in int8 already: .* for bf12"):
        Checkpoint.open(str(int8)).audio_encoder(form="bf12")


def test_folders_of_before_have_the_tower_as_it_was(original, tmp_path):
    folder = written(original, tmp_path / "old", Scheme("int8"))
    assert "audio" not in json.loads((folder / "config.json").read_text())["quantization_config"]
    checkpoint = Checkpoint.open(str(folder))
    assert checkpoint.audio_form("auto") is checkpoint.audio_form("int8") is None
    assert checkpoint.audio_form("int8+audio") == "int8"
    assert not matrices(checkpoint.audio_encoder())
    assert {part.form for part in matrices(checkpoint.audio_encoder(form="int8")).values()} == {
        "int8"
    }


def test_a_folder_without_a_tower(original, tmp_path):
    folder = Path(shutil.copytree(original, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    left = {name: tensor for name, tensor in tensors.items() if TOWER not in name}
    save_file(left, folder / "model.safetensors", metadata={"format": "pt"})
    new = written(folder, tmp_path / "new", TWELVE)
    assert torch.isfinite(logits(Checkpoint.open(str(new)).language_model())).all()


def change(folder: Path, name: str, edit) -> None:
    tensors = load_file(folder / MADE)
    tensors[name] = edit(tensors[name]).contiguous()
    save_file(tensors, folder / MADE, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "edit",
    [
        lambda rest: rest[:, :60],
        lambda rest: rest.repeat(1, 2)[:, :96],
        lambda rest: rest.repeat(1, 18),  # more than there are weights in a row
        lambda rest: rest[:-1],
        lambda rest: rest.flatten(),
    ],
)
def test_a_rest_of_another_shape_is_refused(copy, edit):
    name = f"{LM}layers.2.mlp.up_proj.scale"
    change(copy, name, edit)
    with pytest.raises(CheckpointError, match=rf"shapes differ from config.json: {name} is \["):
        Checkpoint.open(str(copy)).language_model()


@pytest.mark.parametrize("prefix", [LM, TOWER])
def test_a_rest_without_an_end_is_refused(copy, prefix):
    name = (ODD if prefix == LM else ODD_TOO).removesuffix("weight") + "scale"

    def endless(rest: Tensor) -> Tensor:
        rest[7, 16:] = 0
        return rest

    change(copy, name, endless)
    checkpoint = Checkpoint.open(str(copy))
    load = checkpoint.language_model if prefix == LM else checkpoint.audio_encoder
    with pytest.raises(CheckpointError, match=f"is damaged: {name} has no end: download it again"):
        load()
    if prefix == TOWER:
        with pytest.raises(CheckpointError, match="has no end"):
            checkpoint.audio_encoder(form="int8")


def test_a_damaged_model_is_not_packed(original, tmp_path):
    folder = Path(shutil.copytree(original, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    tensors[ODD_TOO][2, 5] = torch.inf
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    checkpoint = Checkpoint.open(str(folder))
    with pytest.raises(CheckpointError, match=f"{ODD_TOO}: weights are not finite"):
        checkpoint.audio_encoder(form="bf12")
    with pytest.raises(CheckpointError, match=f"{ODD_TOO}: weights are not finite"):
        write_quantized(checkpoint, TWELVE, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_packed_folder_has_one_form(packed):
    checkpoint = Checkpoint.open(str(packed))
    for form in ("int8", "bf16", "int8+audio"):
        with pytest.raises(CheckpointError, match="is in bf12 already: take the original weights"):
            checkpoint.audio_form(form)
