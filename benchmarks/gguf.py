"""Random GGUF files of the same shape, for llama.cpp: `python -m benchmarks.gguf`.

Unusual: no library writes them. The format is a header, key-value pairs, a list of tensors and
their data, and quantized tensors are random blocks of the right layout, so nothing has to be
quantized: a scale of 0.001 and any whole numbers are as good as a trained weight's. Tensors that
`llama-quantize` leaves alone (AltUp, LAuReL, the projection of the per-layer inputs) are bf16 in
every form; in the 4-bit form the embedding tables are in 6 bits.
"""

import argparse
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, BinaryIO

import numpy as np

from benchmarks.checkpoint import FOLDERS, SIZES, Size
from benchmarks.room import MakeRoom, whole
from benchmarks.vocabulary import vocabulary

ALIGNMENT = 32
BLOCKS = 65_521  # a prime: quantization blocks that are written over and over
SCALE = 0.001
ARRAY, STRING, U32, I32, F32 = 9, 8, 4, 5, 6  # types of values
NORMAL, CONTROL, BYTE = 1, 3, 6  # types of tokens


@dataclass(frozen=True)
class Form:
    """A tensor type: its number, and how many values and bytes a block of it has."""

    number: int
    values: int
    bytes: int


GGUF_TYPES = {
    "f32": Form(0, 1, 4),
    "q4_0": Form(2, 32, 18),
    "q8_0": Form(8, 32, 34),
    "q6_k": Form(14, 256, 210),
    "bf16": Form(30, 1, 2),
}
# The forms of matrices and of embedding tables in a file of a kind.
KINDS = {"bf16": ("bf16", "bf16"), "int8": ("q8_0", "q8_0"), "int4": ("q4_0", "q6_k")}
# The kind that each of our forms is compared with.
NEAREST = {"bf16": "bf16", "bf12": "bf16", "int8": "int8", "int4": "int4"}
TABLES = ("token_embd.weight", "per_layer_token_embd.weight")
LEFT_ALONE = ("altup", "laurel", "per_layer_model_proj")


def ensure(
    size: Size,
    kind: str,
    path: Path,
    blocks: int = BLOCKS,
    make_room: MakeRoom = lambda needed: None,
) -> Path:
    """The file at ``path``, written now unless it is there; ``kind`` is one of KINDS.

    Raises ValueError for a size whose rows are no whole number of blocks, and OSError on a full
    disk.
    """
    if path.is_file():
        return path
    listed = [(name, shape, form_of(name, shape, kind)) for name, shape in tensors(size).items()]
    for name, shape, form in listed:
        if shape[0] % GGUF_TYPES[form].values:
            raise ValueError(
                f"{name} has rows of {shape[0]}, no multiple of the {GGUF_TYPES[form].values} "
                f"values in a block of {form}: take another kind than {kind}"
            )
    make_room(sum(nbytes(shape, form) for _, shape, form in listed))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as half, half.open("wb") as file:
        _write_head(file, pairs(size), listed)
        for number, (_, shape, form) in enumerate(listed):
            _write_data(file, shape, form, blocks, start=number)
    return path


def tensors(size: Size) -> dict[str, tuple[int, ...]]:
    """Names and shapes as llama.cpp wants them: the first axis is the innermost."""
    text = size.text
    D, P, A, R = (
        text.hidden_size,
        text.hidden_size_per_layer_input,
        text.altup_num_inputs,
        text.laurel_rank,
    )
    layers, vocab = text.num_hidden_layers, text.vocab_size
    whole = {
        "token_embd": (D, vocab),
        "altup_proj": (D, D, A - 1),
        "altup_unembd_proj": (D, D, A - 1),
        "per_layer_token_embd": (P * layers, vocab),
        "per_layer_model_proj": (D, P * layers),
        "per_layer_proj_norm": (P,),
        "output_norm": (D,),
    }
    queries, keys = text.num_attention_heads * text.head_dim, text.num_key_value_heads
    keys *= text.head_dim
    for i, F in enumerate(text.ffn_widths):
        layer = {
            "attn_norm": (D,), "attn_q": (D, queries), "attn_k": (D, keys), "attn_v": (D, keys),
            "attn_output": (queries, D), "attn_q_norm": (text.head_dim,),
            "attn_k_norm": (text.head_dim,), "post_attention_norm": (D,), "ffn_norm": (D,),
            "ffn_gate": (D, F), "ffn_up": (D, F), "ffn_down": (F, D), "post_ffw_norm": (D,),
            "inp_gate": (D, P), "proj": (P, D), "post_norm": (D,), "altup_correct_coef": (A, A),
            "altup_correct_scale": (D,), "altup_predict_coef": (A, A * A), "altup_router": (D, A),
            "altup_router_norm": (D,), "laurel_l": (D, R), "laurel_r": (R, D),
            "laurel_post_norm": (D,),
        }  # fmt: skip
        whole |= {f"blk.{i}.{name}": shape for name, shape in layer.items()}
    return {f"{name}.weight": shape for name, shape in whole.items()}


def form_of(name: str, shape: tuple[int, ...], kind: str) -> str:
    """The form of a tensor in a file of ``kind``."""
    matrices, tables = KINDS[kind]
    if len(shape) == 1 or "_coef" in name or "_router" in name:
        return "f32"
    if any(part in name for part in LEFT_ALONE):
        return "bf16"
    return tables if name in TABLES else matrices


def pairs(size: Size) -> dict[str, tuple[int, Any]]:
    """The metadata: keys to a type and a value; a list of one type is an array."""
    text, specials = size.text, size.layout.specials()
    pieces = sorted(vocabulary(size.layout).items(), key=lambda item: item[1])
    deviations = [NormalDist().inv_cdf(s) if s > 0 else -1e30 for s in text.sparsities]
    kinds = [
        CONTROL if name in specials else BYTE if name.startswith("<0x") else NORMAL
        for name, _ in pieces
    ]
    own = {
        "context_length": (U32, text.max_position_embeddings),
        "embedding_length": (U32, text.hidden_size),
        "block_count": (U32, text.num_hidden_layers),
        "feed_forward_length": (U32, text.ffn_widths[0]),
        "attention.head_count": (U32, text.num_attention_heads),
        "attention.head_count_kv": (U32, text.num_key_value_heads),
        "attention.key_length": (U32, text.head_dim),
        "attention.value_length": (U32, text.head_dim),
        "attention.layer_norm_rms_epsilon": (F32, text.rms_norm_eps),
        "attention.sliding_window": (U32, text.sliding_window),
        "attention.shared_kv_layers": (U32, text.num_kv_shared_layers),
        "rope.freq_base": (F32, text.rope_theta),
        "rope.freq_base_swa": (F32, text.rope_local_base_freq),
        "altup.active_idx": (U32, text.altup_active_idx),
        "altup.num_inputs": (U32, text.altup_num_inputs),
        "embedding_length_per_layer_input": (U32, text.hidden_size_per_layer_input),
        "activation_sparsity_scale": (F32, deviations),
    }
    return {
        "general.architecture": (STRING, "gemma3n"),
        "general.alignment": (U32, ALIGNMENT),
        **{f"gemma3n.{key}": value for key, value in own.items()},
        "tokenizer.ggml.model": (STRING, "llama"),
        "tokenizer.ggml.tokens": (STRING, [name for name, _ in pieces]),
        "tokenizer.ggml.scores": (F32, [0.0] * len(pieces)),
        "tokenizer.ggml.token_type": (I32, kinds),
        "tokenizer.ggml.bos_token_id": (U32, specials["<bos>"]),
        "tokenizer.ggml.eos_token_id": (U32, specials["<eos>"]),
        "tokenizer.ggml.unknown_token_id": (U32, specials["<unk>"]),
        "tokenizer.ggml.padding_token_id": (U32, specials["<pad>"]),
    }


def nbytes(shape: tuple[int, ...], form: str) -> int:
    """Bytes of a tensor's data."""
    return int(np.prod(shape)) // GGUF_TYPES[form].values * GGUF_TYPES[form].bytes


def _write_head(
    file: BinaryIO,
    metadata: dict[str, tuple[int, Any]],
    listed: list[tuple[str, tuple[int, ...], str]],
) -> None:
    file.write(b"GGUF" + struct.pack("<IQQ", 3, len(listed), len(metadata)))
    for key, (kind, value) in metadata.items():
        file.write(_string(key))
        if isinstance(value, list):
            file.write(struct.pack("<IIQ", ARRAY, kind, len(value)))
            file.write(b"".join(_value(kind, item) for item in value))
        else:
            file.write(struct.pack("<I", kind) + _value(kind, value))
    offset = 0
    for name, shape, form in listed:
        file.write(_string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape))
        file.write(struct.pack("<IQ", GGUF_TYPES[form].number, offset))
        offset += -(-nbytes(shape, form) // ALIGNMENT) * ALIGNMENT
    file.write(b"\0" * (-file.tell() % ALIGNMENT))


def _write_data(file: BinaryIO, shape: tuple[int, ...], form: str, blocks: int, start: int) -> None:
    """Random blocks from ``start`` on, over and over; norms and scales are ones."""
    count = nbytes(shape, form)
    if len(shape) == 1:
        file.write(np.ones(shape, np.float32).tobytes())
    else:
        for piece in _pieces(_random(form, blocks), count, start * GGUF_TYPES[form].bytes):
            file.write(piece)
    file.write(b"\0" * (-count % ALIGNMENT))


def _pieces(data: memoryview, count: int, start: int) -> Iterator[memoryview]:
    start %= len(data)
    while count > 0:
        piece = data[start : start + count]
        yield piece
        count, start = count - len(piece), 0


_made: dict[tuple[str, int], memoryview] = {}


def _random(form: str, blocks: int) -> memoryview:
    """The bytes of so many blocks of ``form``."""
    if (form, blocks) not in _made:
        rng = np.random.default_rng(0)
        if form in ("f32", "bf16"):
            drawn = rng.normal(0, 0.02, blocks * 32).astype(np.float32)
            data = drawn if form == "f32" else (drawn.view(np.uint32) >> 16).astype(np.uint16)
        else:
            data = rng.integers(0, 256, (blocks, GGUF_TYPES[form].bytes), dtype=np.uint8)
            scale = np.frombuffer(np.float16(SCALE).tobytes(), np.uint8)
            place = slice(-2, None) if form == "q6_k" else slice(0, 2)
            data[:, place] = scale
        _made[form, blocks] = memoryview(data.tobytes())
    return _made[form, blocks]


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _string(value)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f"}[kind], value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="E2B")
    parser.add_argument("--kind", choices=sorted(KINDS), default="bf16")
    args = parser.parse_args()
    path = FOLDERS / f"{args.size}-{args.kind}.gguf"
    print(ensure(SIZES[args.size], args.kind, path))


if __name__ == "__main__":
    main()
