"""Quantized folders: written, read back, and refused where something is wrong with them."""

import json
import shutil
import wave
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dragoman.decoder.quantize import QuantizedLinear, QuantizedTokenTable, Scheme, quantize
from dragoman.errors import CheckpointError
from dragoman.kernels import accelerate, available
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.quantizing import write_quantized
from dragoman.pipeline.recipes import recipes
from dragoman.pipeline.session import run
from dragoman.spec import ModelSpec
from tests.parts import layer
from tests.pipeline.chains import in_process

ROOT = Path(__file__).resolve().parents[2]
LM = "model.language_model."
IDS = torch.tensor([[2, 9, 40, 7, 300, 451]])
SCHEMES = [Scheme("int8"), Scheme("int4", "int8"), Scheme("int4", None)]


def written(model: Path, folder: Path, scheme: Scheme, **options) -> Path:
    write_quantized(Checkpoint.open(str(model)), scheme, folder, **options)
    return folder


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model(model.embed(IDS), IDS)


@pytest.fixture(scope="module")
def int4(tiny_folder, tmp_path_factory) -> Path:
    """A quantized folder; read only."""
    return written(tiny_folder, tmp_path_factory.mktemp("quantized") / "int4", Scheme("int4"))


@pytest.fixture
def copy(int4, tmp_path) -> Path:
    return Path(shutil.copytree(int4, tmp_path / "copy"))


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_it_loads_as_the_model_quantized_in_memory(scheme, tiny_folder, tmp_path):
    original = Checkpoint.open(str(tiny_folder))
    expected = accelerate(quantize(original.language_model(), scheme))
    checkpoint = Checkpoint.open(str(written(tiny_folder, tmp_path / "new", scheme)))
    model = checkpoint.language_model()
    assert isinstance(layer(model, 0).mlp.up_proj, QuantizedLinear)
    assert isinstance(model.embed_tokens, QuantizedTokenTable) == (scheme.head is not None)
    assert not model.training and model.dtype == torch.float32
    assert torch.equal(logits(model), logits(expected))
    half = checkpoint.language_model(torch.bfloat16)
    assert half.embed(IDS).dtype == layer(half, 0).mlp.up_proj.scale.dtype == torch.bfloat16
    torch.testing.assert_close(logits(half), logits(model), atol=0.3, rtol=0)


def test_who_may_read_one_file_may_read_all(int4):
    assert len({path.stat().st_mode for path in int4.glob("*.safetensors")}) == 1


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_any_model_is_quantized_while_it_is_loaded(form, tiny_folder, tmp_path):
    checkpoint = Checkpoint.open(str(tiny_folder))
    model = checkpoint.language_model(scheme=checkpoint.scheme(form))
    scheme = Scheme(form, "int8", "bf12")
    stored = Checkpoint.open(str(written(tiny_folder, tmp_path / "new", scheme)))
    assert stored.scheme("auto") == stored.scheme(form) == checkpoint.scheme(form)
    assert torch.equal(logits(model), logits(stored.language_model()))
    assert checkpoint.scheme("auto") is None and checkpoint.scheme("bf16") is None
    assert checkpoint.dtype(form) == torch.float32  # a small model


def test_everything_else_is_copied_bit_for_bit(seeing_folder, tmp_path):
    new = written(seeing_folder, tmp_path / "new", Scheme("int8"))
    old = load_file(seeing_folder / "model.safetensors")
    kept = load_file(new / "model.safetensors")
    made = load_file(new / "quantized-00001.safetensors")
    assert not kept.keys() & made.keys()
    assert {name.removesuffix(".scale") + ".weight" for name in made if "scale" in name} == {
        name for name in made if name.endswith(".weight")
    }
    assert kept.keys() | {n for n in made if n.endswith(".weight")} == old.keys()
    for name, tensor in kept.items():
        assert tensor.dtype == old[name].dtype and torch.equal(tensor, old[name]), name
    assert {tensor.dtype for tensor in made.values()} == {torch.uint8, torch.bfloat16}
    assert any("vision_tower" in name for name in kept)
    assert f"{LM}embed_tokens_per_layer.weight" in kept
    assert (new / "tokenizer.json").read_bytes() == (seeing_folder / "tokenizer.json").read_bytes()
    checkpoint = Checkpoint.open(str(new))
    assert checkpoint.vision_tower() is not None
    checkpoint.audio_encoder()


def test_files_are_cut_and_pieces_do_not_show(tiny_folder, tmp_path, monkeypatch, int4):
    monkeypatch.setattr("dragoman.models.quantized.PIECE_BYTES", 1000)
    seen = []
    new = written(
        tiny_folder, tmp_path / "new", Scheme("int4"), file_bytes=4000,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    files = sorted(new.glob("quantized-*.safetensors"))
    assert len(files) > 3
    together = {name: tensor for file in files for name, tensor in load_file(file).items()}
    whole = load_file(int4 / "quantized-00001.safetensors")
    assert together.keys() == whole.keys()
    assert all(torch.equal(together[name], tensor) for name, tensor in whole.items())
    assert seen == sorted(seen) and seen[-1][0] == seen[-1][1]
    assert torch.equal(
        logits(Checkpoint.open(str(new)).language_model()),
        logits(Checkpoint.open(str(int4)).language_model()),
    )


def test_unused_keys_and_values_are_left_out(tiny_folder, tmp_path, int4):
    """Official files have them, for KV-shared layers."""
    model = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    tensors = load_file(model / "model.safetensors")
    tensors[f"{LM}layers.4.self_attn.k_proj.weight"] = torch.zeros(16, 32).bfloat16()
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    new = written(model, tmp_path / "new", Scheme("int4"))
    names = Checkpoint.open(str(new)).tensors
    assert set(names) == set(Checkpoint.open(str(int4)).tensors)


def test_what_is_quantized_already_is_refused(int4, tmp_path):
    with pytest.raises(CheckpointError, match=r"is quantized already \(.*int4.*\): give the orig"):
        written(int4, tmp_path / "new", Scheme("int8"))
    for form in ("int8", "float32", "bf16"):
        with pytest.raises(CheckpointError, match=f"is in int4 already: .* for {form}"):
            Checkpoint.open(str(int4)).scheme(form)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_exists_is_left_alone(tiny_folder, tmp_path):
    (tmp_path / "new").mkdir()
    with pytest.raises(CheckpointError, match="exists already"):
        written(tiny_folder, tmp_path / "new", Scheme("int8"))


def test_a_damaged_model_leaves_nothing_behind(tiny_folder, tmp_path):
    model = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    tensors = load_file(model / "model.safetensors")
    name = f"{LM}layers.2.mlp.up_proj.weight"
    tensors[name][3, 4] = torch.nan
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"{name}: weights are not finite"):
        written(model, tmp_path / "new", Scheme("int8"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"format": 1}, "is of format 1, and this program reads 2"),
        (
            {"quant_method": "bitsandbytes"},
            "weights quantized by bitsandbytes are not read here",
        ),
        ({"layers": "int3"}, "got 'int3', 'int8' and None"),
        (
            {"group": 64},
            "has the keys group, head, layers, expected head, layers and",
        ),
    ],
)
def test_configurations_of_other_programs_are_refused(copy, said, message):
    config = json.loads((copy / "config.json").read_text())
    config["quantization_config"] |= said
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(str(copy)).language_model()


def change(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    tensors = load_file(folder / "quantized-00001.safetensors")
    if tensor is None:
        del tensors[name]
    else:
        tensors[name] = tensor
    save_file(tensors, folder / "quantized-00001.safetensors", metadata={"format": "pt"})


def test_missing_scales_are_named(copy):
    name = f"{LM}layers.1.mlp.down_proj.scale"
    change(copy, name, None)
    with pytest.raises(CheckpointError, match=f"missing tensors {name}"):
        Checkpoint.open(str(copy)).language_model()


def test_ordinary_weights_do_not_pass_for_quantized_ones(copy, tiny_folder):
    name = f"{LM}layers.1.mlp.down_proj.weight"
    change(copy, name, torch.zeros(32, 32).bfloat16())
    with pytest.raises(CheckpointError, match=f"types differ from config.json: {name} is BF16"):
        Checkpoint.open(str(copy)).language_model()


def test_quantized_weights_do_not_pass_for_ordinary_ones(copy):
    config = json.loads((copy / "config.json").read_text())
    del config["quantization_config"]
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"surplus tensors .*scale"):
        Checkpoint.open(str(copy)).language_model()


def heard(form: str) -> tuple[str, str]:
    """Transcript and translation of the bundled recording by the bundled model."""
    with wave.open(str(ROOT / "samples" / "talk.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    chain = in_process(recipes(ModelSpec("nano", dtype=form, threads=1)))
    captions = run(chain, [samples.astype(np.float32) / 32_768], pace="fast")
    finals = [caption for caption in captions if caption.kind == "final"]
    assert len(finals) >= 8
    chain.stop()
    transcript = " ".join(caption.transcript.whole for caption in finals)
    return transcript, " ".join(caption.translation.whole for caption in finals)


@pytest.mark.skipif(not available(), reason="without kernels every product unpacks its weights")
def test_the_bundled_model_hears_the_same():
    """bf12 and int8 to the letter; int4, unknown to its training, may differ in a word in fifty."""
    plain = heard("float32")
    assert heard("bf12") == heard("bf16") == plain
    assert heard("int8") == heard("int8+audio") == plain
    for ours, theirs in zip(heard("int4"), plain, strict=True):
        assert jiwer.wer(theirs, ours) <= 0.02
