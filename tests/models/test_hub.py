import json
import os
import pty
import re
import shutil
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from dragoman.errors import CheckpointError
from dragoman.models import hub as hubs
from dragoman.models.hub import find, here, name_of
from tests.models import variants
from tests.models.hub_server import SHA, Hub

ROOT = Path(__file__).resolve().parents[2]
FIND = """
import sys
from dragoman.errors import CheckpointError
from dragoman.models.hub import find
try:
    print(find(sys.argv[1], bars=len(sys.argv) > 2))
except CheckpointError as error:
    print(f"refused: {error}")
"""


@pytest.fixture
def folder(tiny_folder, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.fixture
def hub(folder):
    """A hub with one open and one gated model, and things in them that nobody reads."""
    (folder / "README.md").write_text("about")
    (folder / "optimizer.bin").write_bytes(b"\0" * 100)
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.safetensors").write_bytes(b"")
    with Hub({"google/tiny": folder, "google/gated": folder}, {"google/gated"}).serving() as made:
        yield made


@pytest.fixture
def ask(hub, tmp_path):
    """What `find` says in a process of its own: huggingface_hub reads its settings once."""

    def asked(model: str, **settings: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", FIND, model, "bars"],
            cwd=ROOT,
            env=environment(tmp_path, **({"HF_ENDPOINT": hub.url} | settings)),
            capture_output=True,
            text=True,
            check=True,
        )
        said = done.stdout.strip()
        assert said.startswith("refused") or not done.stderr  # no bar where nobody watches
        assert "\n" not in said
        return said

    return asked


def environment(home: Path, **settings: str) -> dict[str, str]:
    ours = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    ours = {k: v for k, v in ours.items() if not k.lower().endswith("_proxy")}
    return {**ours, "HF_HOME": str(home / "hf"), **settings}


def cached(home: Path, model: str = "google/tiny") -> Path:
    return home / "hf" / "hub" / f"models--{model.replace('/', '--')}" / "snapshots" / SHA


def test_a_model_is_downloaded_once_and_only_what_is_read(hub, ask, folder, tmp_path):
    found = Path(ask("google/tiny"))
    assert found == cached(tmp_path) and name_of(found) == "tiny"
    files = ["config.json", "model.safetensors", "tokenizer.json"]
    assert hub.downloaded() == files == sorted(path.name for path in found.iterdir())
    for name in files:
        assert (found / name).read_bytes() == (folder / name).read_bytes()
    assert Path(ask("google/tiny")) == found
    assert hub.downloaded() == files


def test_shards_come_with_their_index(hub, ask, folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")
    found = Path(ask("google/tiny"))
    assert (found / "model-00001-of-00001.safetensors").is_file()
    assert (found / "model.safetensors.index.json").is_file()


def test_what_was_downloaded_is_found_offline_and_without_a_network(hub, ask):
    found = ask("google/tiny")
    hub.asked.clear()
    assert ask("google/tiny", HF_HUB_OFFLINE="1") == found
    assert hub.asked == []
    hub.down = True
    assert ask("google/tiny") == found
    assert ask("google/tiny", HF_ENDPOINT="http://127.0.0.1:9") == found


def test_offline_without_the_model(hub, ask):
    message = ask("google/tiny", HF_HUB_OFFLINE="1")
    assert "google/tiny is not, or not wholly, in the cache" in message
    assert "HF_HUB_OFFLINE is set: unset it once" in message
    assert hub.asked == []


def test_offline_with_a_part_of_the_model(ask, tmp_path):
    found = Path(ask("google/tiny"))
    (found / "model.safetensors").unlink()
    assert "not wholly, in the cache" in ask("google/tiny", HF_HUB_OFFLINE="1")
    assert Path(ask("google/tiny")) == found and (found / "model.safetensors").is_file()


@pytest.mark.parametrize("port", ["", "9"])
def test_no_hub_and_no_model(hub, ask, port):
    hub.down = True
    url = f"http://127.0.0.1:{port}" if port else hub.url
    message = ask("google/tiny", HF_ENDPOINT=url)
    assert message.startswith(f"refused: {url} cannot be reached (")
    assert message.endswith("check the network and HF_ENDPOINT")


@pytest.mark.parametrize("token", ["", "hf_not_yet"])
def test_a_licence_that_nobody_accepted(hub, ask, token):
    hub.token = "hf_not_yet"
    message = ask("google/gated@v1", **({"HF_TOKEN": token} if token else {}))
    assert f"needs a licence: accept it at {hub.url}/google/gated, then set HF_TOKEN" in message
    assert hub.downloaded() == []


def test_the_token_opens_a_gated_model(ask, tmp_path):
    assert ask("google/gated", HF_TOKEN="hf_right") == str(cached(tmp_path, "google/gated"))


def test_a_wrong_token(ask):
    message = ask("google/gated", HF_TOKEN="hf_wrong")
    assert "does not accept your token for google/gated: set HF_TOKEN to a valid one" in message


def test_no_such_repository(ask):
    message = ask("google/nothing")
    assert "no model 'google/nothing': there is no such folder here, and http" in message
    assert "check the name, or set HF_TOKEN if it is private" in message


def test_a_revision_is_a_part_of_the_id(ask, tmp_path):
    assert Path(ask("google/tiny@v1")) == cached(tmp_path)
    assert re.search(r"google/tiny has no revision 'v2': see .*, or leave @", ask("google/tiny@v2"))


def test_an_adapter_of_the_hub_comes_with_its_base(hub, ask, folder, tmp_path):
    variants.adapter(folder, tmp_path / "lora", ("q_proj",), base_model_name_or_path="google/tiny")
    hub.repositories["someone/lora"] = tmp_path / "lora"
    found = Path(ask("someone/lora"))
    assert found == cached(tmp_path, "someone/lora")
    assert (found / "adapter_model.safetensors").is_file()
    assert (cached(tmp_path) / "model.safetensors").is_file()
    assert ask("someone/lora", HF_HUB_OFFLINE="1") == str(found)


def test_a_model_of_another_kind_costs_its_configuration_only(hub, ask, folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert "describes a 'llama' model, expected 'gemma3n'" in ask("google/tiny")
    assert hub.downloaded() == ["config.json"]


def test_a_repository_without_a_configuration(hub, ask, folder):
    (folder / "config.json").unlink()
    assert "has no config.json: it is not a model folder" in ask("google/tiny")
    assert hub.downloaded() == []


@pytest.mark.parametrize("config", [True, False])
@pytest.mark.parametrize(
    "name, kind", [("gemma-3n-Q4_K_M.gguf", "GGUF file"), ("gemma-3n.litertlm", "LiteRT model")]
)
def test_a_repository_of_another_runtime_is_called_by_its_name(ask, folder, name, kind, config):
    (folder / "model.safetensors").rename(folder / name)
    if not config:
        (folder / "config.json").unlink()
    said = ask("google/tiny")
    assert f"google/tiny has {name}, a {kind}" in said and "take the original weights" in said


def test_a_disk_that_takes_nothing(hub, ask, tmp_path):
    (tmp_path / "hf").write_text("a file where the cache should be")
    message = ask("google/tiny")
    assert f"google/tiny cannot be written to {tmp_path}/hf/hub" in message
    assert "set HF_HOME to another folder" in message


@pytest.mark.parametrize("wanted", [True, False])
def test_the_download_is_shown_on_a_terminal_where_it_is_wanted(hub, tmp_path, wanted):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    done = subprocess.run(
        [sys.executable, "-c", FIND, "google/tiny", *(["bars"] if wanted else [])],
        cwd=ROOT,
        env=environment(tmp_path, HF_ENDPOINT=hub.url, TERM="xterm"),
        stdout=subprocess.PIPE,
        stderr=theirs,
        check=True,
    )
    os.write(theirs, b"$")
    shown = b""
    while not shown.endswith(b"$"):
        shown += os.read(ours, 65536)
    os.close(ours)
    os.close(theirs)
    assert done.stdout.strip().endswith(SHA.encode())
    assert (b"%" in shown) if wanted else (shown == b"$")


def test_a_bundled_name_is_found_before_a_folder_of_that_name(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(hubs, "BUNDLED", folder.parent)
    (tmp_path / "elsewhere" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert find("model") == folder
    assert find("./model") == Path("model")


def test_a_folder_is_found_before_a_model_of_the_hub(monkeypatch, tmp_path):
    (tmp_path / "google" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find("google/tiny") == Path("google/tiny")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find("~/google") == tmp_path / "google"
    assert here("google/other") is None


@pytest.mark.parametrize("model", ["nowhere", "/nowhere/at/all", "./google/tiny", "a/b/c", "../x"])
def test_what_cannot_be_on_the_hub_is_not_looked_for(model, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hubs, "BUNDLED", folder.parent)
    with pytest.raises(CheckpointError, match=r"no model at .*bundled name \(model\)"):
        find(model)
    monkeypatch.setattr(hubs, "BUNDLED", tmp_path / "none")
    with pytest.raises(CheckpointError, match="none is bundled"):
        find(model)


def test_names_for_people():
    assert name_of(Path("/models/mine")) == "mine"
    cache = Path("/hf/hub/models--google--gemma-3n-E2B-it/snapshots/0123")
    assert name_of(cache) == "gemma-3n-E2B-it"
