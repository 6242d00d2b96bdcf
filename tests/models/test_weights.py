import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dragoman.decoder.layers import LayerTable
from dragoman.encoders.attention import RelativePosition
from dragoman.errors import CheckpointError
from dragoman.models import checkpoint as checkpoints
from dragoman.models import resident, weights
from dragoman.models.checkpoint import DTYPES, Checkpoint
from dragoman.models.reading import TOKEN_TABLE
from tests.models import large
from tests.parts import blocks

ROOT = Path(__file__).resolve().parents[2]
MB = 2**20


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return large.make(tmp_path_factory.mktemp("large") / "model")


def measured(folder: Path, dtype: str) -> dict[str, int]:
    """What a process tells that loads ``folder`` and answers once."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.large", str(folder), dtype],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bf16", "float32"])
def test_loading_takes_no_more_memory_than_the_result(folder, dtype):
    found = measured(folder, dtype)
    assert found["weights"] > 200 * MB
    assert 0.95 * found["weights"] < found["loaded"] < 1.1 * found["weights"]
    assert found["peak"] < 1.1 * found["loaded"]
    # Weights as they are stored are the file itself; others are copies that do not map it.
    expected = found["weights"] if dtype == "bf16" else 0
    assert abs(found["others_resident"] - expected) < 8 * MB
    # Of the per-layer table twenty rows were read.
    assert found["table"] > 90 * MB and found["table_resident"] < MB
    assert found["grown"] < 0.5 * found["table"]
    assert not found["compiler"]  # 100 MB that nobody asked for


@pytest.mark.slow
def test_packing_takes_little_more_memory_than_the_result(folder):
    """Not the weights a second time, nor as bf16: those are another 230 MB."""
    found, plain = measured(folder, "bf12"), measured(folder, "bf16")
    assert found["weights"] < 0.8 * plain["weights"]
    assert found["peak"] < found["weights"] + 120 * MB


def test_pieces_are_the_whole(tiny_folder, monkeypatch):
    expected = Checkpoint.open(str(tiny_folder)).audio_encoder().state_dict()
    monkeypatch.setattr(weights, "PIECE_BYTES", 100)
    found = Checkpoint.open(str(tiny_folder)).audio_encoder().state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_what_stays_as_it_is_stored_is_the_file(tiny_folder):
    checkpoint = Checkpoint.open(str(tiny_folder))
    for dtype in (torch.bfloat16, torch.float32):
        encoder = checkpoint.audio_encoder(dtype)
        regions = mapped_regions(tiny_folder / "model.safetensors")
        inside = {any(p.data_ptr() in r for r in regions) for p in encoder.parameters()}
        assert inside == {dtype == torch.bfloat16}
        assert {p.dtype for p in encoder.parameters()} == {dtype}
        del encoder


def test_what_relative_positions_are_made_of_is_read_once(tiny_folder, monkeypatch):
    gone = []
    monkeypatch.setattr(resident, "forget", gone.extend)
    encoder = Checkpoint.open(str(tiny_folder)).audio_encoder()
    positions = [part for part in encoder.modules() if isinstance(part, RelativePosition)]
    weights = {position.pos_proj.weight.data_ptr() for position in positions}
    assert {weight.data_ptr() for weight in gone} == weights and positions

    def read_again(position):
        raise AssertionError("the weight is read again")

    monkeypatch.setattr(RelativePosition, "_table", read_again)
    mel = torch.zeros(1, 64, encoder.config.input_feat_size)
    with torch.inference_mode():
        assert encoder(mel).isfinite().all()
    with pytest.raises(AssertionError, match="read again"):
        positions[0].train()()


def mapped_regions(file: Path) -> list[range]:
    lines = Path("/proc/self/maps").read_text().splitlines()
    ends = [line.split()[0].split("-") for line in lines if line.endswith(str(file))]
    return [range(int(start, 16), int(stop, 16)) for start, stop in ends]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_per_layer_table_stays_on_the_host_as_it_is_stored(tiny_folder, dtype):
    model = Checkpoint.open(str(tiny_folder)).language_model(dtype, "meta")
    table = model.embed_tokens_per_layer.weight
    assert (table.device.type, table.dtype) == ("cpu", torch.bfloat16)
    others = [p for name, p in model.named_parameters() if name != TOKEN_TABLE]
    assert {(p.device.type, p.dtype) for p in others} == {("meta", dtype)}
    assert model.device.type == "meta" and model.dtype == dtype


def test_answers_do_not_depend_on_where_the_table_is(tiny_folder):
    model = Checkpoint.open(str(tiny_folder)).language_model()
    ids = torch.tensor([[2, 5, 300, 447, 460, 2]])
    expected = model(model.embed(ids), ids)
    inside = LayerTable.from_pretrained(model.embed_tokens_per_layer.weight.float())
    model.embed_tokens_per_layer = inside
    assert torch.equal(model(model.embed(ids), ids), expected)


@pytest.mark.parametrize("columns", [slice(0, 48), slice(16, 40), slice(47, 48), slice(None)])
def test_rows_of_the_table_are_those_of_the_file(tiny_folder, columns):
    table = Checkpoint.open(str(tiny_folder)).language_model().embed_tokens_per_layer
    ids = torch.tensor([[0, 447, 3], [3, 3, 200]])
    rows = table.rows(ids, columns)
    assert rows.dtype == torch.bfloat16
    assert torch.equal(rows, table.weight[:, columns][ids])


def test_a_table_cut_short_while_it_is_used(tiny_folder, tmp_path):
    copy = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    table = Checkpoint.open(str(copy)).language_model().embed_tokens_per_layer
    (copy / "model.safetensors").write_bytes(b"")
    with pytest.raises(OSError, match="ends before the row of token 7"):
        table.rows(torch.tensor([7]), slice(None))


def test_the_table_closes_its_file(tiny_folder):
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    model = Checkpoint.open(str(tiny_folder)).language_model()
    assert len(list(descriptors.iterdir())) == before + 1
    del model
    assert len(list(descriptors.iterdir())) == before


def test_a_small_model_is_float32_and_a_larger_one_what_it_is_stored_as(tiny_folder, monkeypatch):
    checkpoint = Checkpoint.open(str(tiny_folder))
    assert checkpoint.dtype() == torch.float32
    assert {form: checkpoint.dtype(form) for form in DTYPES} == DTYPES
    monkeypatch.setattr(checkpoints, "SMALL_BYTES", 1000)
    assert checkpoint.dtype() == torch.bfloat16 and checkpoint.dtype("float32") == torch.float32
    norm = blocks(checkpoint.audio_encoder())[0].norm.weight
    assert norm is not None and norm.dtype == torch.bfloat16


@pytest.mark.parametrize(
    "stored, expected", [("F32", torch.float32), ("BF16", torch.bfloat16), ("F16", torch.bfloat16)]
)
def test_what_a_larger_model_is_stored_as(tiny_folder, monkeypatch, stored, expected):
    monkeypatch.setattr(checkpoints, "SMALL_BYTES", 1000)
    checkpoint = Checkpoint.open(str(tiny_folder))
    other = {name: replace(tensor, dtype=stored) for name, tensor in checkpoint.tensors.items()}
    assert Checkpoint(checkpoint.folder, checkpoint.config, other).dtype() == expected


def test_an_unknown_form(tiny_folder):
    with pytest.raises(CheckpointError, match="no weights of the form 'int2': choose auto"):
        Checkpoint.open(str(tiny_folder)).dtype("int2")
