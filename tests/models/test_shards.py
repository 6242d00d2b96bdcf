"""Writing of safetensors by parts, read back by the library itself."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from dragoman.models.reading import header
from dragoman.models.shards import Part, write

TENSORS = {
    "odd": torch.arange(3).bfloat16(),
    "wide": torch.arange(20.0).view(4, 5),
    "scalar": torch.tensor(7.0),
    "kernel": torch.arange(24.0).view(2, 3, 2, 2).half(),
    "empty": torch.zeros(0, 4),
}


@pytest.fixture
def stored(tmp_path):
    """The tensors as they lie in a file, by name."""
    path = tmp_path / "old.safetensors"
    save_file(TENSORS, path)
    return {stored.name: stored for stored in header(path)}


def written(folder, parts, **options):
    folder.mkdir()
    write(folder, parts, **options)
    return load_file(folder / "model.safetensors")


def same(found, expected) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype
        for name, tensor in expected.items()
    )


def test_any_shape_and_type_is_copied(stored, tmp_path):
    parts = {name: Part(stored[name]) for name in TENSORS}
    assert same(written(tmp_path / "new", parts), TENSORS)
    places = {tensor.name: tensor for tensor in header(tmp_path / "new" / "model.safetensors")}
    assert all(places[name].start % TENSORS[name].element_size() == 0 for name in TENSORS)


def test_rows_and_columns(stored, tmp_path):
    wide, kernel = TENSORS["wide"], TENSORS["kernel"]
    parts = {
        "rows": Part(stored["wide"], rows=(range(0, 1), range(2, 4))),
        "columns": Part(stored["wide"], columns=(range(1, 2), range(4, 5))),
        "both": Part(stored["wide"], rows=(range(3),), columns=(range(2, 5),)),
        "channels": Part(stored["kernel"], rows=(range(1, 2),)),
        "none": Part(stored["wide"], rows=()),
    }
    expected = {
        "rows": wide[[0, 2, 3]],
        "columns": wide[:, [1, 4]],
        "both": wide[:3, 2:],
        "channels": kernel[1:],
        "none": wide[:0],
    }
    assert {name: part.shape for name, part in parts.items()} == {
        name: tuple(tensor.shape) for name, tensor in expected.items()
    }
    assert same(written(tmp_path / "new", parts), expected)


def test_a_tensor_beyond_the_limit_has_a_file_to_itself(stored, tmp_path):
    (tmp_path / "new").mkdir()
    write(tmp_path / "new", {name: Part(stored[name]) for name in TENSORS}, shard_bytes=60)
    files = sorted((tmp_path / "new").glob("*.safetensors"))
    assert [sorted(load_file(file)) for file in files] == [
        ["odd"],
        ["wide"],
        ["empty", "kernel", "scalar"],
    ]
