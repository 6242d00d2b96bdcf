import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dragoman.errors import CheckpointError
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.reading import TOKEN_TABLE
from dragoman.stages.look import LookStage
from dragoman.stages.translate import TranslateStage

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
        expected = written[name] if name == LM + TOKEN_TABLE else written[name].float()
        assert tensor.dtype == expected.dtype and torch.equal(tensor, expected)
    for module in modules.values():
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())
    assert checkpoint.language_model(torch.bfloat16).embed_tokens.weight.dtype == torch.bfloat16
    assert checkpoint.name == "tiny"
    assert checkpoint.tokenizer.vocab_size == checkpoint.text_config.vocab_size


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
        (lambda c: c["text_config"].update(attention_bias=True), "attention_bias is True; only"),
        (lambda c: c["text_config"].update(head_dim=0), "head_dim must be positive"),
        (lambda c: c["text_config"].update(head_dim="16"), "config.json"),
        (lambda c: c.update(tie_word_embeddings=False), "tie_word_embeddings is False, expected"),
    ],
)
def test_config_of_another_model(folder, edit, message):
    config = json.loads((folder / "config.json").read_text())
    edit(config)
    (folder / "config.json").write_text(json.dumps(config))
    assert message in refused(folder)


def test_keys_that_other_tools_write_are_no_reason_to_refuse(folder, caplog):
    """Of derived folders; what is harmless is not even mentioned, the rest once, by its name."""
    config = json.loads((folder / "config.json").read_text())
    known = {"unsloth_version": "1", "unsloth_fixed": True, "auto_map": {}, "vocab_size": 3}
    config |= known | {"hidden_size": 3, "tokenizer_class": "GemmaTokenizer", "image_tokn_id": 3}
    config["text_config"]["zebra"] = config["vision_config"] = {"colour": "blue"}
    (folder / "config.json").write_text(json.dumps(config))
    for _ in range(2):
        assert Checkpoint.open(str(folder)).language_model()
    (record,) = caplog.records
    expected = "image_tokn_id, text_config.zebra, vision_config.colour"
    assert record.getMessage().endswith(f"ignoring keys that are not known here: {expected}")


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
    message = refused(folder)
    assert f"shapes differ from config.json: {LM}norm.weight is [7], not [32]: take" in message


def test_shapes_are_checked_before_weights_are_read(folder):
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["head_dim"] = 8
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint = Checkpoint.open(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"k_norm\.weight is .* and \d+ more"):
        checkpoint.language_model()


def test_what_is_not_shown_to_the_language_model_may_be_wrong_in_the_towers(folder):
    change(folder, lambda tensors: tensors.update({AUDIO + "bonus": torch.ones(7)}))
    assert Checkpoint.open(str(folder)).language_model()
    assert "surplus tensors model.audio_tower.bonus" in refused(folder, "audio_encoder")


@pytest.mark.parametrize(
    "edit, message",
    [
        (lambda path: path.unlink(), "no tokenizer at"),
        (lambda path: path.write_text("{}"), "is not a readable tokenizer.json"),
        (lambda path: rename(path, "<audio_soft_token>"), "has no <audio_soft_token>: it is not"),
        (lambda path: rename(path, "<end_of_image>"), "has no <end_of_image>"),
        (lambda path: rename(path, "<start_of_turn>"), "has no <start_of_turn>"),
    ],
)
def test_a_tokenizer_without_what_the_prompt_needs(folder, edit, message):
    edit(folder / "tokenizer.json")
    checkpoint = Checkpoint.open(str(folder))
    with pytest.raises(CheckpointError, match=re.escape(message)) as caught:
        _ = checkpoint.tokenizer
    assert str(folder / "tokenizer.json") in str(caught.value)


@pytest.mark.parametrize("stage", [TranslateStage, LookStage])
def test_a_wrong_tokenizer_is_found_before_any_weight_is_read(folder, stage):
    rename(folder / "tokenizer.json", "<end_of_image>")
    change(folder, lambda tensors: tensors.pop(LM + "norm.weight"))
    with pytest.raises(CheckpointError, match="<end_of_image>"):
        stage.load(str(folder))


def test_a_tokenizer_of_another_gemma(folder):
    config = json.loads((folder / "config.json").read_text())
    config["audio_token_id"] += 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="<audio_soft_token> at .* but audio_token_id in"):
        _ = Checkpoint.open(str(folder)).tokenizer


def rename(path: Path, token: str) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace(token, "<other>"), encoding="utf-8")


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


def test_pictures_that_would_be_seen_otherwise_are_told_of(seeing_folder, tmp_path, caplog):
    copy = Path(shutil.copytree(seeing_folder, tmp_path / "model"))
    path = copy / "preprocessor_config.json"
    said = {"do_normalize": False, "resample": 2, **json.loads(path.read_text())}
    path.write_text(json.dumps(said))
    resolution = Checkpoint.open(str(copy)).resolution
    assert not caplog.records
    path.write_text(json.dumps({**said, "do_normalize": True, "resample": 3}))
    assert Checkpoint.open(str(copy)).resolution == resolution
    assert [record.args[1] for record in caplog.records] == ["resample", "do_normalize"]
