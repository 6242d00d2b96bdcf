"""Random checkpoints of true size in the official layout: `python -m benchmarks.checkpoint`.

The official weights may not be at hand; speed and memory do not depend on their values. Written
once, shard by shard, to a folder outside the tracked files, and found again by every measurement.

Unusual: five billion random numbers would take minutes, so one block of them, of prime length, is
written over and over. No two rows of a tensor start at the same place of it, so rows differ, and
since every layer norms what it reads, activations stay finite. A file appears under its name only
when it is whole, and `config.json` last, so that an interrupted run goes on with the missing files.
"""

import argparse
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch

from benchmarks.room import SPARE_BYTES, MakeRoom, free_bytes, whole
from benchmarks.vocabulary import Layout
from benchmarks.vocabulary import write as write_vocabulary
from dragoman.decoder import LanguageModel, TextConfig, unused_tensor_names
from dragoman.encoders import (
    AudioConfig,
    AudioEncoder,
    MultimodalEmbedder,
    VisionConfig,
    VisionTower,
)
from dragoman.models.checkpoint import GROUPS

BLOCK = 16_777_213  # a prime: values of the block
SHARD_BYTES = 2 * 2**30
STD = 0.02
FOLDERS = Path("build/random")
Shapes = dict[str, torch.Size]


@dataclass(frozen=True)
class Size:
    """A model's three parts and the layout of its vocabulary."""

    name: str
    text: TextConfig
    audio: AudioConfig
    vision: VisionConfig
    layout: Layout = Layout()


_E4B = TextConfig()
_E2B = replace(
    _E4B, num_hidden_layers=30, num_kv_shared_layers=10, intermediate_size=8192, layer_types=None,
    activation_sparsity_pattern=None,
)  # fmt: skip
_TINY_TEXT = TextConfig(
    vocab_size=1024 + 2 * 8, vocab_size_per_layer_input=1024, hidden_size=64,
    hidden_size_per_layer_input=8, intermediate_size=128, num_hidden_layers=6,
    num_kv_shared_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=32,
    layer_types=("sliding_attention", "full_attention") * 3, sliding_window=64, laurel_rank=8,
    max_position_embeddings=1024, activation_sparsity_pattern=(0.9, 0.9, 0.0, 0.0, 0.0, 0.0),
)  # fmt: skip
_TINY_AUDIO = AudioConfig(
    vocab_size=8, vocab_offset=1024 + 8, hidden_size=32, conf_num_attention_heads=2,
    conf_num_hidden_layers=2, sscp_conv_channel_size=(8, 4),
)  # fmt: skip
SIZES = {
    "E2B": Size("E2B", _E2B, AudioConfig(), VisionConfig()),
    "E4B": Size("E4B", _E4B, AudioConfig(), VisionConfig()),
    "tiny": Size(
        "tiny",
        _TINY_TEXT,
        _TINY_AUDIO,
        VisionConfig(model_args={"channel_multiplier": 0.05}),
        Layout(text=1024, rows=8),
    ),
}


def ensure(
    size: Size,
    folder: Path,
    block: int = BLOCK,
    shard_bytes: int = SHARD_BYTES,
    make_room: MakeRoom | None = None,
) -> Path:
    """The folder of a random checkpoint, written now unless it is whole already.

    ``make_room`` is told how many bytes are missing; without one, OSError is raised where the disk
    has no room for them.
    """
    if (folder / "config.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    shards = split(shapes(size), shard_bytes)
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    missing = [i for i, name in enumerate(names) if not (folder / name).is_file()]
    needed = sum(_bytes(shards[i]) for i in missing)
    (make_room or partial(_check_room, folder))(needed)
    values = _random_block(block)
    for i in missing:
        _write_shard(folder / names[i], shards[i], values)
    index = {name: file for file, shard in zip(names, shards, strict=True) for name in shard}
    total = sum(map(_bytes, shards))
    _write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": index},
    )
    write_vocabulary(folder / "tokenizer.json", size.layout)
    _write_json(folder / "config.json", config(size))
    return folder


def config(size: Size) -> dict[str, Any]:
    """The `config.json` of a size, with the official keys."""
    ids = size.layout.specials()
    rows = {"vocab_size": size.layout.rows, "rms_norm_eps": 1e-6}
    return {
        "architectures": ["Gemma3nForConditionalGeneration"],
        "model_type": "gemma3n",
        "dtype": "bfloat16",
        "text_config": size.text.to_dict(),
        "audio_config": size.audio.to_dict(),
        "vision_config": {
            "model_type": "gemma3n_vision",
            "architecture": size.vision.architecture,
            "model_args": dict(size.vision.model_args),
            "hidden_size": size.vision.hidden_size,
            "vocab_offset": ids["<end_of_image>"],
            **rows,
        },
        "audio_soft_tokens_per_image": 188,
        "vision_soft_tokens_per_image": 256,
        "boi_token_id": ids["<start_of_image>"],
        "eoi_token_id": ids["<end_of_image>"],
        "image_token_id": ids["<image_soft_token>"],
        "boa_token_id": ids["<start_of_audio>"],
        "eoa_token_id": ids["<end_of_audio>"],
        "audio_token_id": ids["<audio_soft_token>"],
        "eos_token_id": [ids["<eos>"], ids["<end_of_turn>"]],
        "tie_word_embeddings": True,
    }


def shapes(size: Size) -> Shapes:
    """Every tensor of the official files by name, also the k and v that shared layers never use."""
    text = size.text
    with torch.device("meta"):
        embedders = {
            "embed_audio": _embedder(size, size.audio.vocab_offset, size.audio.hidden_size),
            "embed_vision": _embedder(size, size.layout.text, size.vision.hidden_size),
        }
        modules = {
            "language_model": LanguageModel(text),
            "audio_tower": AudioEncoder(size.audio),
            "vision_tower": VisionTower(size.vision),
            **embedders,
        }
    found = {
        GROUPS[group] + name: tensor.shape
        for group, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    key_width = text.num_key_value_heads * text.head_dim
    for name in unused_tensor_names(text):
        norm = name.endswith("k_norm.weight")
        shape = (text.head_dim,) if norm else (key_width, text.hidden_size)
        found[GROUPS["language_model"] + name] = torch.Size(shape)
    return found


def split(tensors: Mapping[str, torch.Size], most_bytes: int) -> list[Shapes]:
    """Tensors in order, in shards of at most so many bytes; a larger tensor has one of its own."""
    shards: list[Shapes] = [{}]
    for name, shape in tensors.items():
        if shards[-1] and _bytes({**shards[-1], name: shape}) > most_bytes:
            shards.append({})
        shards[-1][name] = shape
    return shards


def _embedder(size: Size, offset: int, width: int) -> MultimodalEmbedder:
    return MultimodalEmbedder(size.layout.rows, offset, width, size.text.hidden_size)


def _bytes(tensors: Mapping[str, torch.Size]) -> int:
    return sum(2 * shape.numel() for shape in tensors.values())


def _check_room(folder: Path, needed: int) -> None:
    free = free_bytes(folder)
    if free < needed + SPARE_BYTES:
        raise OSError(
            f"{folder} needs {needed / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB left: "
            "make room, or give another folder with --folder"
        )


def _random_block(length: int) -> memoryview:
    """bf16 values of a normal distribution, as bytes."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(length, generator=generator).mul_(STD).to(torch.bfloat16)
    return memoryview(values.view(torch.uint8).numpy().tobytes())


def _write_shard(path: Path, tensors: Mapping[str, torch.Size], values: memoryview) -> None:
    """One safetensors file: length of the header, header, data."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in tensors.items():
        start, end = end, end + 2 * shape.numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with whole(path) as half, half.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for i, shape in enumerate(tensors.values()):
            _write_tensor(file, shape, values, start=7919 * i)


def _write_tensor(file: BinaryIO, shape: Sequence[int], values: memoryview, start: int) -> None:
    """Norms and scales are ones; everything else is the block, from ``start`` on, again and
    again.
    """
    count = torch.Size(shape).numel()
    if len(shape) < 2:
        ones = torch.ones(count, dtype=torch.bfloat16)
        file.write(ones.view(torch.uint8).numpy().tobytes())
        return
    for piece in _pieces(values, 2 * count, 2 * start % len(values)):
        file.write(piece)


def _pieces(values: memoryview, count: int, start: int) -> Iterator[memoryview]:
    """``count`` bytes of the endless repetition of ``values``, from ``start`` on."""
    while count > 0:
        piece = values[start : start + count]
        yield piece
        count, start = count - len(piece), 0


def _write_json(path: Path, value: Any) -> None:
    with whole(path) as half:
        half.write_text(json.dumps(value, indent=1), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="E2B")
    parser.add_argument("--folder", type=Path, help="by default build/random/SIZE")
    args = parser.parse_args()
    folder = args.folder or FOLDERS / args.size
    print(ensure(SIZES[args.size], folder))


if __name__ == "__main__":
    main()
