"""Writing safetensors a piece at a time, from parts of tensors that lie in other files.

Unusual: a tensor is described before it is read, as rows and columns of stored ones, so a file's
header is known at once and its bytes pass through a small buffer, whatever the size of the model
and whatever the type of its numbers.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dragoman.errors import CheckpointError
from dragoman.models.reading import WORD_BYTES, Progress, Stored

SHARD_BYTES = 5 * 10**9  # as transformers cuts them
PIECE_BYTES = 16 * 2**20
Ranges = tuple[range, ...]


class Source(Protocol):
    """A tensor that can be written: its bits come piece by piece, as unsigned numbers."""

    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def bytes(self) -> int: ...
    @property
    def item_bytes(self) -> int: ...
    def pieces(self) -> Iterator[np.ndarray]: ...


@dataclass(frozen=True)
class Part:
    """Rows (first axis) and columns (second) of a stored tensor; None: all of them."""

    stored: Stored
    rows: Ranges | None = None
    columns: Ranges | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        shape = list(self.stored.shape)
        for axis, kept in enumerate((self.rows, self.columns)):
            if kept is not None:
                shape[axis] = sum(map(len, kept))
        return tuple(shape)

    @property
    def dtype(self) -> str:
        return self.stored.dtype

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.item_bytes

    @property
    def item_bytes(self) -> int:
        return WORD_BYTES[self.stored.dtype]

    def pieces(self, piece_bytes: int = PIECE_BYTES, together: int = 1) -> Iterator[np.ndarray]:
        """The part's bits in order, as unsigned numbers [rows, columns], each piece read from at
        most `piece_bytes` of the file, but from so many rows that lie `together` at least."""
        if self.stored.bytes == 0:
            return
        height = self.stored.shape[0] if self.stored.shape else 1
        width = self.stored.bytes // self.item_bytes // height
        step = together * max(1, piece_bytes // (together * width * self.item_bytes))
        with self.stored.file.open("rb", buffering=0) as file:
            for rows in (range(height),) if self.rows is None else self.rows:
                for start in range(rows.start, rows.stop, step):
                    count = min(step, rows.stop - start)
                    file.seek(self.stored.start + start * width * self.item_bytes)
                    bits = np.fromfile(file, f"u{self.item_bytes}", count * width)
                    if bits.size != count * width:
                        raise CheckpointError(
                            f"{self.stored.file} became shorter while it was read"
                        )
                    yield self._chosen(bits.reshape(count, width))

    def _chosen(self, piece: np.ndarray) -> np.ndarray:
        if self.columns is None:
            return piece
        return np.concatenate([piece[:, cut.start : cut.stop] for cut in self.columns], axis=1)


def write(
    folder: Path,
    parts: Mapping[str, Part],
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = lambda done, total: None,
) -> None:
    """Writes `parts` under their names, in files of at most `shard_bytes` (a larger tensor has one
    to itself), with an index where there are several."""
    shards = _shards(parts, shard_bytes)
    total = sum(part.bytes for part in parts.values())
    done, places = 0, {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        if len(shards) == 1:
            file = "model.safetensors"
        for count in write_file(folder / file, {name: parts[name] for name in names}):
            done += count
            progress(done, total)
        places |= dict.fromkeys(names, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": places}
        text = json.dumps(index, indent=2) + "\n"
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def _shards(parts: Mapping[str, Part], shard_bytes: int) -> list[list[str]]:
    """The names that go into each file, in their order."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, part in parts.items():
        if shards[-1] and filled + part.bytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += part.bytes
    return shards


def write_file(path: Path, parts: Mapping[str, Source]) -> Iterator[int]:
    """Writes one file and tells how many bytes each step wrote."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    # Wide numbers first: then every tensor begins at a multiple of its item's size.
    parts = dict(sorted(parts.items(), key=lambda item: -item[1].item_bytes))
    for name, part in parts.items():
        start, end = end, end + part.bytes
        entries[name] = {
            "dtype": part.dtype,
            "shape": part.shape,
            "data_offsets": [start, end],
        }
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for part in parts.values():
            for piece in part.pieces():
                piece.tofile(file)
                yield piece.nbytes
