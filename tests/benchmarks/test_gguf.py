"""GGUF files are what the format says, read back here by a reader of its own."""

import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks import gguf
from benchmarks.checkpoint import SIZES, Size

TINY = SIZES["tiny"]
WIDE = Size(
    "wide",
    replace(TINY.text, hidden_size=256, hidden_size_per_layer_input=256, intermediate_size=256,
            head_dim=128, altup_num_inputs=3),
    TINY.audio,
    TINY.vision,
    TINY.layout,
)  # fmt: skip
FORMATS = {4: "<I", 5: "<i", 6: "<f"}


class Reader:
    """The pairs, the tensors (shape, type, offset) and the data of a file."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        assert self.take(4) == b"GGUF"
        version, count, pairs = struct.unpack("<IQQ", self.take(20))
        assert version == 3
        self.pairs = {self.string(): self.value(self.number("<I")) for _ in range(pairs)}
        self.tensors = {self.string(): self.tensor() for _ in range(count)}
        self.start = -(-self.at // 32) * 32

    def take(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, kind: str) -> Any:
        return struct.unpack(kind, self.take(struct.calcsize(kind)))[0]

    def string(self) -> str:
        return self.take(self.number("<Q")).decode()

    def value(self, kind: int) -> Any:
        if kind == 9:
            inner, count = self.number("<I"), self.number("<Q")
            return [self.value(inner) for _ in range(count)]
        return self.string() if kind == 8 else self.number(FORMATS[kind])

    def tensor(self) -> tuple[tuple[int, ...], int, int]:
        axes = self.number("<I")
        shape = tuple(self.number("<Q") for _ in range(axes))
        return shape, self.number("<I"), self.number("<Q")


BYTES = {0: (1, 4), 2: (32, 18), 8: (32, 34), 14: (256, 210), 30: (1, 2)}


@pytest.mark.parametrize("kind", ["bf16", "int8", "int4"])
def test_the_file_holds_what_its_head_says(kind, tmp_path):
    path = gguf.ensure(WIDE, kind, tmp_path / "new" / "model.gguf", blocks=101)
    found = Reader(path.read_bytes())
    assert {name: shape for name, (shape, _, _) in found.tensors.items()} == gguf.tensors(WIDE)
    end = 0
    for shape, form, offset in found.tensors.values():
        assert offset == end and offset % 32 == 0
        values, size = BYTES[form]
        end += -(-int(np.prod(shape)) // values * size // 32) * 32
    assert len(found.data) == found.start + end
    assert found.pairs["gemma3n.block_count"] == 6
    assert found.pairs["tokenizer.ggml.tokens"][2] == "<bos>"
    assert len(found.pairs["tokenizer.ggml.tokens"]) == WIDE.text.vocab_size


def test_forms_of_the_four_bit_file():
    forms = {name: gguf.form_of(name, shape, "int4") for name, shape in gguf.tensors(WIDE).items()}
    assert forms["token_embd.weight"] == forms["per_layer_token_embd.weight"] == "q6_k"
    assert forms["blk.0.ffn_down.weight"] == "q4_0"
    assert forms["blk.0.laurel_l.weight"] == forms["altup_proj.weight"] == "bf16"
    assert forms["blk.0.altup_router.weight"] == forms["blk.0.attn_norm.weight"] == "f32"


def test_quantized_blocks_have_sane_scales(tmp_path):
    found = Reader(gguf.ensure(WIDE, "int8", tmp_path / "model.gguf", blocks=101).read_bytes())
    shape, _, offset = found.tensors["blk.0.attn_q.weight"]
    size = int(np.prod(shape)) // 32 * 34
    data = np.frombuffer(found.data, np.uint8, size, found.start + offset).reshape(-1, 34)
    assert set(data[:, :2].copy().view(np.float16).ravel()) == {np.float16(0.001)}
    assert len(np.unique(data[:101], axis=0)) == 101


def test_true_size_fits_every_kind():
    for kind in gguf.KINDS:
        for name, shape in gguf.tensors(SIZES["E2B"]).items():
            values = gguf.GGUF_TYPES[gguf.form_of(name, shape, kind)].values
            assert shape[0] % values == 0, (kind, name)
    listed = gguf.tensors(SIZES["E2B"]).items()
    whole = sum(gguf.nbytes(shape, gguf.form_of(n, shape, "bf16")) for n, shape in listed)
    assert whole == pytest.approx(8.93e9, rel=0.01)


def test_rows_that_are_no_whole_number_of_blocks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no multiple of the 256 values in a block of q6_k"):
        gguf.ensure(TINY, "int4", tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())
