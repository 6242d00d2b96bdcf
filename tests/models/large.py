"""A checkpoint of some 300 MB, to measure memory with: the language model and its embedder.

Its weights are one block of random numbers over and over, in two files: the per-layer table, and
all else. Run as a program it loads that and prints what became of the memory of its process.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import torch

from dragoman.decoder import LanguageModel, TextConfig
from dragoman.kernels import accelerate
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.reading import GROUPS, TOKEN_TABLE
from tests import nano_like

PREFIX = GROUPS["language_model"]
WIDE = {
    "vocab_size": 32_768,
    "vocab_size_per_layer_input": 32_768,
    "hidden_size": 1024,
    "hidden_size_per_layer_input": 256,
    "intermediate_size": [4096] * 6,
}


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    config = nano_like.config(nano_like.train_tokenizer(folder / "tokenizer.json"))
    config["text_config"] |= WIDE
    with torch.device("meta"):
        module = LanguageModel(TextConfig.from_dict(config["text_config"]))
    shapes = {PREFIX + name: tensor.shape for name, tensor in module.state_dict().items()}
    table = {PREFIX + TOKEN_TABLE: shapes.pop(PREFIX + TOKEN_TABLE)}
    write(folder / "model-00001-of-00002.safetensors", shapes)
    write(folder / "model-00002-of-00002.safetensors", table)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def write(path: Path, shapes: dict[str, torch.Size]) -> None:
    block = torch.randn(2**22, generator=torch.Generator().manual_seed(0)).mul_(0.02)
    data = block.to(torch.bfloat16).view(torch.uint8).numpy().tobytes()
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * shape.numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        while end:
            end -= file.write(data[:end])


def memory() -> dict[str, int]:
    """Resident bytes now and at most since the peak was forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    status = {line.partition(":")[0]: line.split()[1] for line in lines if " kB" in line}
    return {"now": 1024 * int(status["VmRSS"]), "peak": 1024 * int(status["VmHWM"])}


def mapped(file: Path) -> int:
    """Bytes of ``file`` that this process has mapped and resident."""
    resident, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        key, _, rest = line.partition(":")
        if "-" in key:
            inside = line.endswith(str(file))
        elif inside and key == "Rss":
            resident += 1024 * int(rest.split()[0])
    return resident


def touch(model: LanguageModel) -> int:
    """Reads a number of every page but the table's; gives the bytes of what it went over."""
    total = 0
    for name, weight in (*model.named_parameters(), *model.named_buffers()):
        if name != TOKEN_TABLE:
            weight.flatten()[:: 4096 // weight.element_size()].sum()
            total += weight.nbytes
    return total


def main(folder: str, dtype: str) -> None:
    checkpoint = Checkpoint.open(folder)
    accelerate(torch.nn.Linear(1, 1))  # imports LLVM, which is no weight
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before = memory()["now"]
    scheme = checkpoint.scheme(dtype)
    model = checkpoint.language_model(checkpoint.dtype(dtype), scheme=scheme)
    weights = touch(model)
    loaded = memory()
    for first in range(2):  # the first answer makes code for this machine, once
        warm = memory()
        ids = torch.arange(first, 32_768, 3277)[None]
        model.prefill(model.embed(ids), ids, model.new_cache())
    table = checkpoint.tensors[PREFIX + TOKEN_TABLE]
    print(
        json.dumps(
            {
                "weights": weights,
                "loaded": loaded["now"] - before,
                "peak": loaded["peak"] - before,
                "grown": memory()["now"] - warm["now"],
                "table": table.bytes,
                "table_resident": mapped(table.file),
                "others_resident": mapped(checkpoint.tensors[PREFIX + "norm.weight"].file),
                "compiler": "torch._dynamo" in sys.modules,
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
