"""Damaged model folders are loaded, or refused as a `CheckpointError` that says where."""

import contextlib
import json
import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.errors import UsageError
from dragoman.models.catalogue import describe
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.tokenizer import Tokenizer
from tests import nano_like
from tests.fuzz.damage import bounded, damaged, damaged_json, frugal, many


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return nano_like.make(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def copy(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def read(folder) -> None:
    """All that a command reads of a folder before it hears anything."""
    checkpoint = Checkpoint.open(str(folder))
    describe(checkpoint)
    checkpoint.language_model()
    checkpoint.audio_encoder()
    checkpoint.embedder("audio")


def load(folder) -> None:
    with bounded(), contextlib.suppress(UsageError):
        read(folder)


def test_the_whole_folder_is_read(copy):
    read(copy)


def test_damaged_config(folder, copy):
    whole = nano_like.read_config(folder)
    parts = [damaged_json(whole, under) for under in ((), ("text_config",), ("audio_config",))]

    @many
    @given(text=st.one_of(parts))
    def case(text):
        (copy / "config.json").write_text(text, encoding="utf-8")
        load(copy)

    with frugal():
        case()


def test_config_of_damaged_bytes(folder, copy):
    @many
    @given(data=damaged([(folder / "config.json").read_bytes()]))
    def case(data):
        (copy / "config.json").write_bytes(data)
        load(copy)

    with frugal():
        case()


def test_damaged_headers_of_weights(folder, copy):
    """The header's length and text are damaged, the numbers behind it are not."""
    whole = (folder / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", whole[:8])
    header, numbers = json.loads(whole[8 : 8 + size]), whole[8 + size :]

    @st.composite
    def heads(draw):
        if draw(st.booleans()):
            return draw(damaged([whole[: 8 + size]]))
        text = draw(damaged_json(header)).encode()
        return struct.pack("<Q", len(text)) + text

    @many
    @given(head=heads())
    def case(head):
        (copy / "model.safetensors").write_bytes(head + numbers)
        load(copy)

    with frugal():
        case()


def test_damaged_tokenizers(folder, tmp_path):
    path = tmp_path / "tokenizer.json"
    whole = (folder / "tokenizer.json").read_bytes()

    @many
    @given(data=damaged([whole]) | damaged_json(json.loads(whole)).map(str.encode))
    def case(data):
        path.write_bytes(data)
        with bounded(), contextlib.suppress(UsageError):
            tokenizer = Tokenizer.from_file(path)
            ids = tokenizer.encode("¿Dónde está 中 la estación?")
            tokenizer.decode(ids)
            [tokenizer.begins_word(one) for one in ids]
            tokenizer.special("<start_of_audio>")

    with frugal():
        case()
