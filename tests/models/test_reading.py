import ctypes
import json
import mmap
import os
import re
import shutil
import struct
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from dragoman import system
from dragoman.errors import CheckpointError
from dragoman.models import reading
from dragoman.models.reading import tensors

LM, AUDIO = "model.language_model.", "model.audio_tower."
INDEX = "model.safetensors.index.json"


def write(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(start: int, stop: int, shape=(2,), dtype: str = "BF16") -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


@pytest.fixture
def sharded(tiny_folder, tmp_path) -> Path:
    """The tiny model in two files: towers and all else, with an index."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    found = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {
        name: f"model-0000{1 if name.startswith(AUDIO) else 2}-of-00002.safetensors"
        for name in found
    }
    for file in set(places.values()):
        save_file({n: t for n, t in found.items() if places[n] == file}, folder / file)
    write_index(folder, places)
    return folder


def write_index(folder: Path, places: object) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def read_index(folder: Path) -> dict[str, str]:
    return json.loads((folder / INDEX).read_text())["weight_map"]


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        tensors(folder)
    message = str(caught.value)
    assert str(folder) in message and "\n" not in message
    return message


def test_places_are_those_that_safetensors_reads(tiny_folder):
    path = tiny_folder / "model.safetensors"
    whole, written = path.read_bytes(), load_file(path)
    found = tensors(tiny_folder)
    assert set(found) == set(written)
    for name, stored in found.items():
        assert (stored.name, stored.file) == (name, path)
        assert stored.shape == tuple(written[name].shape) and stored.dtype == "BF16"
        bits = torch.frombuffer(bytearray(whole[stored.start : stored.stop]), dtype=torch.bfloat16)
        assert torch.equal(bits.view(stored.shape), written[name])


def test_shards_are_one_model(sharded, tiny_folder):
    found = tensors(sharded)
    assert set(found) == set(tensors(tiny_folder))
    assert {stored.file.name for stored in found.values()} == set(read_index(sharded).values())
    (sharded / INDEX).unlink()
    assert tensors(sharded) == found


def test_a_shard_that_the_index_names_and_that_is_not_there(sharded):
    (sharded / "model-00002-of-00002.safetensors").unlink()
    assert re.search(r"index\.json tells of model-00002-of-00002\.safetensors.*not there: download",
                     refused(sharded))  # fmt: skip


def test_a_tensor_that_the_index_does_not_know_is_accepted(sharded):
    places = read_index(sharded)
    del places[LM + "norm.weight"]
    write_index(sharded, places)
    assert LM + "norm.weight" in tensors(sharded)


@pytest.mark.parametrize("name", [LM + "norm.weight", LM + "bonus.weight"])
def test_a_tensor_that_is_not_where_the_index_says(sharded, name):
    write_index(sharded, read_index(sharded) | {name: "model-00001-of-00002.safetensors"})
    assert f"{name} not in the file that {INDEX} says" in refused(sharded)


@pytest.mark.parametrize("places", [None, [], "x"])
def test_an_index_without_a_map(sharded, places):
    write_index(sharded, places)
    assert f"{INDEX} has no weight_map" in refused(sharded)


def test_an_index_that_is_not_json(sharded):
    (sharded / INDEX).write_text("{")
    assert f"{INDEX} is not valid JSON" in refused(sharded)


@pytest.mark.parametrize("prefix", ["model.", ""])
def test_a_tensor_in_two_files(sharded, prefix):
    name = LM.removeprefix("model.") + "norm.weight"
    save_file({prefix + name: torch.ones(32)}, sharded / "another.safetensors")
    message = refused(sharded)
    assert f"{LM}norm.weight is in another.safetensors and in model-00002" in message
    assert "remove the file" in message


def test_names_without_their_first_part(tiny_folder, tmp_path):
    """As a model saved without its output head has them."""
    found = load_file(tiny_folder / "model.safetensors")
    save_file({n.removeprefix("model."): t for n, t in found.items()}, tmp_path / "a.safetensors")
    assert set(tensors(tmp_path)) == set(found)


def test_tensors_of_another_model(sharded):
    save_file({"transformer.wte": torch.ones(2)}, sharded / "another.safetensors")
    assert "surplus tensors transformer.wte: not a Gemma 3n" in refused(sharded)


def test_the_repeated_embedding_table_is_left_alone(sharded):
    save_file({"lm_head.weight": torch.ones(2)}, sharded / "another.safetensors")
    write_index(sharded, read_index(sharded) | {"lm_head.weight": "another.safetensors"})
    assert "lm_head.weight" not in tensors(sharded)


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.001])
def test_a_shard_cut_short_is_named(sharded, kept):
    path = sharded / "model-00001-of-00002.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert re.search(r"model-00001-of-00002\.safetensors is damaged.*download it again",
                     refused(sharded))  # fmt: skip


@pytest.mark.parametrize("dtype", ["F64", "I32", "F8_E4M3", "BOOL"])
def test_a_type_that_nobody_reads_is_named_with_its_tensor(tmp_path, dtype):
    write(tmp_path / "a.safetensors", {LM + "norm.weight": entry(0, 4, dtype=dtype)}, b"1234")
    assert f"{LM}norm.weight is stored as {dtype}, expected BF16, F16, F32" in refused(tmp_path)


@pytest.mark.parametrize("dtype, size", [("BF16", 4), ("F16", 4), ("F32", 8)])
def test_types_that_are_read(tmp_path, dtype, size):
    path = write(tmp_path / "a", {"x": entry(0, size, dtype=dtype)}, b"\0" * size)
    assert reading.header(path)[0].bytes == size


@pytest.mark.parametrize(
    "header, data, message",
    [
        (b"", b"", "no safetensors header"),
        (b"[]", b"", "no safetensors header"),
        (b"{", b"", "no safetensors header"),
        (b"\xff\xfe{}", b"", "no safetensors header"),
        ({"x": 1}, b"", "nothing sensible about x"),
        ({"x": {"dtype": "BF16", "shape": [2]}}, b"1234", "nothing sensible about x"),
        ({"x": entry(0, 4) | {"data_offsets": [0]}}, b"1234", "nothing sensible about x"),
        ({"x": entry(0, 4) | {"shape": ["a"]}}, b"1234", "nothing sensible about x"),
        ({"x": entry(0, 3)}, b"123", r"x has 3 bytes for \[2\] of BF16"),
        ({"x": entry(-4, 0)}, b"", "x has 4 bytes"),
        ({"x": entry(4, 8)}, b"12345678", "overlap or leave gaps"),
        ({"x": entry(0, 4), "y": entry(2, 6)}, b"123456", "overlap or leave gaps"),
        ({"x": entry(0, 4), "y": entry(0, 4)}, b"1234", "overlap or leave gaps"),
        ({"x": entry(0, 4)}, b"12345", "long where its header tells of"),
        ({"x": entry(0, 4)}, b"123", "long where its header tells of"),
    ],
)
def test_headers_that_make_no_sense(tmp_path, header, data, message):
    path = write(tmp_path / "a.safetensors", header, data)
    with pytest.raises(CheckpointError, match=rf"a\.safetensors is damaged: .*{message}"):
        reading.header(path)


def test_a_header_too_long_to_be_one(tmp_path):
    with pytest.raises(CheckpointError, match="no safetensors header"):
        reading.header(write(tmp_path / "a", {}, length=2**62))


@given(data=st.binary(max_size=60))
def test_no_bytes_break_the_reader(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(data)
    try:
        assert reading.header(path) == []
    except CheckpointError as error:
        assert "any.safetensors is" in str(error)


def test_a_pointer_in_the_place_of_the_weights(tmp_path):
    (tmp_path / "a.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "a Git LFS pointer, not the weights: run `git lfs pull`" in refused(tmp_path)


def test_a_link_into_nowhere(tmp_path):
    (tmp_path / "a.safetensors").symlink_to(tmp_path / "gone")
    assert "a.safetensors cannot be read: No such file" in refused(tmp_path)


def test_speech_reads_neither_the_per_layer_table_nor_eyes(seeing_folder):
    found = tensors(seeing_folder)
    chosen = {stored.name for stored in reading.used_by_speech(found)}
    left = {name.removeprefix("model.") for name in set(found) - chosen}
    assert {name.partition(".")[0] for name in left} == {
        "language_model", "vision_tower", "embed_vision"
    }  # fmt: skip
    assert [name for name in left if name.startswith("language")] == [
        "language_model.embed_tokens_per_layer.weight"
    ]


@pytest.mark.parametrize("able", [True, False])
def test_reading_ahead_tells_how_far_it_is(sharded, monkeypatch, able):
    """Also where the system cannot bring in pages, or not all of them."""
    monkeypatch.setattr(reading, "PIECE_BYTES", mmap.PAGESIZE)
    if not able:
        monkeypatch.setattr(system, "POPULATE_READ", 9999)
    wanted = reading.used_by_speech(tensors(sharded))
    total, told = sum(stored.bytes for stored in wanted), []
    reading.read_ahead(wanted, lambda done, of: told.append((done, of)))
    assert told[-1] == (total, total) and {of for _, of in told} == {total}
    done = [count for count, _ in told]
    assert done == sorted(set(done)) and max(b - a for a, b in pairwise(done)) <= mmap.PAGESIZE


def in_memory(stored) -> bool:
    """Whether all pages of a tensor are there, without touching them."""
    with (
        stored.file.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as all_,
    ):
        view = (ctypes.c_char * len(all_)).from_buffer(all_)
        pages = (ctypes.c_ubyte * -(-len(all_) // mmap.PAGESIZE))()
        size = ctypes.c_size_t(len(all_))
        asked = ctypes.CDLL(None).mincore(ctypes.c_void_p(ctypes.addressof(view)), size, pages)
        del view
    assert asked == 0
    first, last = stored.start // mmap.PAGESIZE, (stored.stop - 1) // mmap.PAGESIZE
    return all(page & 1 for page in pages[first : last + 1])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems are asked in other ways")
@pytest.mark.parametrize("able", [True, False])
def test_what_was_read_ahead_is_in_memory(sharded, tmp_path, monkeypatch, able):
    if not able:
        monkeypatch.setattr(system, "POPULATE_READ", 9999)
    folder = shutil.copytree(sharded, tmp_path / "unmapped")
    wanted = reading.used_by_speech(tensors(folder))
    for path in {stored.file for stored in wanted}:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if any(map(in_memory, wanted)):
        pytest.skip("this file system keeps files in memory")
    reading.read_ahead(wanted, lambda done, of: None)
    assert all(map(in_memory, wanted))


def test_reading_ahead_ends_when_it_shall(sharded):
    told = []
    wanted = reading.used_by_speech(tensors(sharded))
    reading.read_ahead(wanted, lambda *now: told.append(now), lambda: len(told) > 2)
    assert len(told) == 3
