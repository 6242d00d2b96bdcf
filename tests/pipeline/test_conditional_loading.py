"""Each process holds its own part of a model: told by the files that are mapped into it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from dragoman.models.reading import GROUPS, TOKEN_TABLE
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.session import run
from dragoman.pipeline.start import start
from dragoman.spec import ModelSpec
from dragoman.stages.messages import SessionOptions
from tests.pipeline.fake_stages import picture
from tests.pipeline.test_lane import bursts

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("encode", "translate", "look")
TABLE = GROUPS["language_model"] + TOKEN_TABLE


@pytest.fixture(scope="module")
def folder(seeing_folder, tmp_path_factory) -> Path:
    """The tiny model with eyes, a file for each group and one for the per-layer table."""
    folder = tmp_path_factory.mktemp("groups") / "model"
    shutil.copytree(seeing_folder, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file({TABLE: tensors.pop(TABLE)}, folder / "table.safetensors")
    for group, prefix in GROUPS.items():
        inside = {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        save_file(inside, folder / f"{group}.safetensors")
    return folder


@pytest.fixture(scope="module")
def graph(folder, with_ray):
    """The real stages with weights as they are stored, which is what keeps them mapped."""
    made = start(ModelSpec(str(folder), dtype="bf16", threads=1))
    yield made
    made.stop()


def mapped(graph: Chain, folder: Path) -> dict[str, set[str]]:
    """By stage, the model files that its process has mapped."""
    pids = graph.pids()
    assert len(set(pids)) == len(pids)
    found = {}
    for stage, pid in zip(STAGES, pids, strict=False):
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        paths = {Path(line.split(maxsplit=5)[-1]) for line in lines if str(folder) in line}
        found[stage] = {path.stem for path in paths}
    return found


def test_every_process_maps_its_own_groups(graph, folder):
    options = SessionOptions(max_answer_tokens=4, update_chunks=6)
    sound = {
        "encode": {"audio_tower", "embed_audio"},
        "translate": {"language_model", "embed_audio", "table"},
    }
    assert list(run(graph, [bursts()], options, "fast"))
    assert mapped(graph, folder) == sound

    assert list(run(graph, [bursts()], options, "fast", frames=[picture(0.0)]))
    assert mapped(graph, folder) == sound | {"look": {"vision_tower", "embed_vision"}}
