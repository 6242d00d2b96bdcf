import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models import checkpoint as checkpoints
from models.checkpoint import Checkpoint, CheckpointError

LM, AUDIO = "model.language_model.", "model.audio_tower."


@pytest.fixture
def folder(tiny_folder, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def change(folder: Path, edit) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def refused(folder: Path, part: str = "language_model") -> str:
    """The message with which loading ``part`` fails."""
    with pytest.raises(CheckpointError) as caught:
        getattr(Checkpoint.open(str(folder)), part)()
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_loads_what_was_written(tiny_folder):
    checkpoint = Checkpoint.open(str(tiny_folder))
    written = load_file(tiny_folder / "model.safetensors")
    modules = {
        LM: checkpoint.language_model(),
        AUDIO: checkpoint.audio_encoder(),
        "model.embed_audio.": checkpoint.embedder("audio"),
    }
    loaded = {p + n: t for p, module in modules.items() for n, t in module.state_dict().items()}
    assert set(loaded) == set(written)
    for name, tensor in loaded.items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, written[name].float())
    for module in modules.values():
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())
    assert checkpoint.language_model(torch.bfloat16).embed_tokens.weight.dtype == torch.bfloat16
    assert checkpoint.name == "tiny"
    assert checkpoint.tokenizer.vocab_size == checkpoint.text_config.vocab_size


def test_a_bundled_name_is_found_before_a_folder_of_that_name(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoints, "BUNDLED", folder.parent)
    (tmp_path / "elsewhere" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert checkpoints.find("model") == folder
    assert checkpoints.find("./model") == Path("model")


def test_no_such_model(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoints, "BUNDLED", folder.parent)
    with pytest.raises(CheckpointError, match=r"no model at 'nowhere'.*bundled name \(model\)"):
        Checkpoint.open("nowhere")
    monkeypatch.setattr(checkpoints, "BUNDLED", tmp_path / "none")
    with pytest.raises(CheckpointError, match="none is bundled"):
        Checkpoint.open(str(tmp_path / "nowhere"))


def test_no_config(folder):
    (folder / "config.json").unlink()
    assert "no config.json" in refused(folder)


@pytest.mark.parametrize("text", ["{", "", "\ufeff{}", b"\xff\xfe{"])
def test_config_that_is_not_json(folder, text):
    (folder / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert "not valid JSON" in refused(folder)


def test_config_that_is_no_object(folder):
    (folder / "config.json").write_text("[1]")
    assert "holds a list, expected a JSON object" in refused(folder)


@pytest.mark.parametrize(
    "edit, message",
    [
        (lambda c: c.update(model_type="llama"), "'llama' model, expected 'gemma3n'"),
        (lambda c: c.pop("model_type"), "None model, expected 'gemma3n'"),
        (lambda c: c.pop("text_config"), "no text_config"),
        (lambda c: c["text_config"].update(hidden_sise=3), "unknown text_config keys: hidden_sise"),
        (lambda c: c["text_config"].update(head_dim=0), "head_dim must be positive"),
        (lambda c: c["text_config"].update(head_dim="16"), "config.json"),
    ],
)
def test_config_of_another_model(folder, edit, message):
    config = json.loads((folder / "config.json").read_text())
    edit(config)
    (folder / "config.json").write_text(json.dumps(config))
    assert message in refused(folder)


def test_embedder_without_its_sizes(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["audio_config"]["vocab_offset"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="audio_config has no 'vocab_offset'"):
        Checkpoint.open(str(folder)).embedder("audio")
    with pytest.raises(CheckpointError, match="no vision_config"):
        Checkpoint.open(str(folder)).embedder("vision")


def test_missing_tensors_are_listed(folder):
    change(folder, lambda tensors: tensors.pop(LM + "norm.weight"))
    assert f"missing tensors {LM}norm.weight" in refused(folder)
    assert Checkpoint.open(str(folder)).audio_encoder()  # whole: what is missing is not its


def test_many_missing_tensors_are_counted(folder):
    change(folder, lambda tensors: [tensors.pop(n) for n in list(tensors) if AUDIO in n])
    message = refused(folder, "audio_encoder")
    assert message.count(AUDIO) == 5 and " more" in message


def test_surplus_tensors_are_listed(folder):
    change(folder, lambda tensors: tensors.update({LM + "bonus.weight": torch.zeros(2)}))
    assert f"surplus tensors {LM}bonus.weight" in refused(folder)


def test_tensors_of_another_model(folder):
    change(folder, lambda tensors: tensors.update({"transformer.wte": torch.zeros(2)}))
    assert "surplus tensors transformer.wte" in refused(folder)


def test_unused_tensors_of_official_files_are_accepted(folder):
    def official(tensors):
        for part in ("k_proj", "v_proj", "k_norm"):
            name = f"{LM}layers.2.self_attn.{part}.weight"
            tensors[f"{LM}layers.5.self_attn.{part}.weight"] = tensors[name].clone()
        tensors["lm_head.weight"] = tensors[LM + "embed_tokens.weight"].clone()

    change(folder, official)
    assert Checkpoint.open(str(folder)).language_model()


def test_unused_tensors_of_a_layer_that_owns_its_keys_are_not_dropped(folder):
    change(folder, lambda tensors: tensors.pop(LM + "layers.2.self_attn.k_proj.weight"))
    assert "missing tensors" in refused(folder)


def test_shapes_are_checked(folder):
    change(folder, lambda tensors: tensors.update({LM + "norm.weight": torch.ones(7)}))
    assert "shapes differ from config.json" in refused(folder)


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs", b"\x02" + b"\0" * 7 + b"[]"])
def test_a_damaged_file(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    assert "is damaged" in refused(folder)


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.001])
def test_a_truncated_file(folder, kept):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert "is damaged" in refused(folder)


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    assert "the weights are missing" in refused(folder)


def test_sharded_files(tiny_folder, folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    for i in range(3):
        shard = {name: tensors[name] for name in names[i::3]}
        save_file(shard, folder / f"model-0000{i + 1}-of-00003.safetensors")
    expected = Checkpoint.open(str(tiny_folder)).language_model().state_dict()
    found = Checkpoint.open(str(folder)).language_model().state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert "missing tensors" in refused(folder)


def test_only_the_asked_group_is_read(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file({n: t for n, t in tensors.items() if n.startswith(LM)}, folder / "a.safetensors")
    save_file({n: t for n, t in tensors.items() if not n.startswith(LM)}, folder / "b.safetensors")
    checkpoint = Checkpoint.open(str(folder))
    (folder / "a.safetensors").unlink()
    assert checkpoint.audio_encoder() and checkpoint.embedder("audio")
    with pytest.raises((CheckpointError, OSError)):
        checkpoint.language_model()


def test_a_vision_tower_is_loaded_where_there_is_one(tiny_folder, seeing_folder):
    assert Checkpoint.open(str(tiny_folder)).vision_tower() is None
    checkpoint = Checkpoint.open(str(seeing_folder))
    tower, embedder = checkpoint.vision_tower(), checkpoint.embedder("vision")
    assert tower is not None and not tower.training
    written = load_file(seeing_folder / "model.safetensors")
    for prefix, module in (("model.vision_tower.", tower), ("model.embed_vision.", embedder)):
        loaded = {prefix + name: tensor for name, tensor in module.state_dict().items()}
        assert set(loaded) == {name for name in written if name.startswith(prefix)}
        assert all(torch.equal(tensor, written[name].float()) for name, tensor in loaded.items())
    assert checkpoint.language_model() and checkpoint.audio_encoder()
    assert checkpoint.resolution == 256 and Checkpoint.open(str(tiny_folder)).resolution == 768


@pytest.mark.parametrize(
    "edit, message",
    [
        (lambda c: c.pop("vision_config"), "no vision_config"),
        (lambda c: c["vision_config"].update(architecture="resnet50"), "one of timm's"),
        (lambda c: c["vision_config"].update(model_args={}), "shapes differ|missing|surplus"),
    ],
)
def test_a_tower_that_is_not_as_described_is_refused(seeing_folder, tmp_path, edit, message):
    copy = Path(shutil.copytree(seeing_folder, tmp_path / "model"))
    config = json.loads((copy / "config.json").read_text())
    edit(config)
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(str(copy)).vision_tower()


def test_a_resolution_that_the_tower_does_not_know_is_refused(seeing_folder, tmp_path):
    copy = Path(shutil.copytree(seeing_folder, tmp_path / "model"))
    (copy / "preprocessor_config.json").write_text('{"size": {"height": 300, "width": 300}}')
    with pytest.raises(CheckpointError, match=r"expected a height and width of \(256, 512, 768\)"):
        _ = Checkpoint.open(str(copy)).resolution
