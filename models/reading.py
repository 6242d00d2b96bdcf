"""What lies in a model folder's `*.safetensors`, read from their headers alone.

The first thing that happens to a model, in the command and again in every process that loads a part
of it. A header is a few kilobytes, so what is missing, cut short, doubled, or of a type that
nobody reads is known before any weight is. Free of torch: the command itself never needs it.
"""

import json
import math
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from dragoman import system
from dragoman.errors import CheckpointError

GROUPS = {
    "language_model": "model.language_model.",
    "audio_tower": "model.audio_tower.",
    "embed_audio": "model.embed_audio.",
    "embed_vision": "model.embed_vision.",
    "vision_tower": "model.vision_tower.",
}
TIED = {"lm_head.weight"}  # some exports repeat the embedding table under this name
TOKEN_TABLE = "embed_tokens_per_layer.weight"  # of the language model: read a row at a time
ITEM_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "I8": 1, "U8": 1}  # types of stored weights
WORD_BYTES = ITEM_BYTES | {"U32": 4}  # with the words that MLX packs codes into
MOST_HEADER_BYTES = 100_000_000  # what safetensors itself accepts
PIECE_BYTES = 16 * 2**20
AGAIN = "download it again"

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: ``name`` there, type as safetensors calls it, its bytes' place."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def bytes(self) -> int:
        return self.stop - self.start


def tensors(folder: Path) -> dict[str, Stored]:
    """All tensors of ``folder`` by their official names; raises CheckpointError."""
    files = sorted(folder.glob("*.safetensors"))
    found = named((stored for path in files for stored in header(path)), folder)
    _check_index(folder, {stored.name: stored for stored in found.values()})
    if not found:
        raise CheckpointError(f"{folder} has no *.safetensors: the weights are missing")
    return {name: stored for name, stored in found.items() if name not in TIED}


def named(tensors: Iterable[Stored], model: Path | str) -> dict[str, Stored]:
    """``tensors`` by their official names; raises CheckpointError for doubles and strangers.

    Names may lack the leading `model.`, as in files that were saved without the output head.
    """
    found: dict[str, Stored] = {}
    strangers = []
    for stored in tensors:
        name = _official(stored.name)
        if name is None:
            strangers.append(stored.name)
        elif name in found:
            raise CheckpointError(_twice(name, found[name], stored))
        else:
            found[name] = stored
    if strangers:
        raise CheckpointError(f"{model}: surplus tensors {some(strangers)}: not a Gemma 3n")
    return found


def header(path: Path, types: Mapping[str, int] = ITEM_BYTES) -> list[Stored]:
    """The tensors of one file; raises CheckpointError unless the file is whole and its numbers are
    of the ``types``, whose bytes these are.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            entries, begin = _entries(file, path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    found = [from_header(name, entry, path, types) for name, entry in entries.items()]
    end = 0
    for stored in sorted(found, key=lambda stored: (stored.start, stored.stop)):
        if stored.start != end:
            raise CheckpointError(f"{path} is damaged: its tensors overlap or leave gaps: {AGAIN}")
        end = stored.stop
    if size != begin + end:
        raise CheckpointError(
            f"{path} is damaged: {size} bytes long where its header tells of {begin + end}: {AGAIN}"
        )
    return [replace(s, start=s.start + begin, stop=s.stop + begin) for s in found]


def used_by_speech(found: Mapping[str, Stored]) -> list[Stored]:
    """What a session without pictures reads from its start on, in the order of the disk."""
    prefixes = tuple(GROUPS[group] for group in ("language_model", "audio_tower", "embed_audio"))
    table = GROUPS["language_model"] + TOKEN_TABLE
    chosen = [s for name, s in found.items() if name.startswith(prefixes) and name != table]
    return sorted(chosen, key=lambda stored: (stored.file, stored.start))


def read_ahead(
    wanted: Iterable[Stored], progress: Progress, stopped: Callable[[], bool] = lambda: False
) -> None:
    """Reads tensors once and keeps nothing, so that they come from memory when they are mapped.

    Otherwise mapped weights are fetched from the disk where they are first touched, in front of the
    first answer. Ends early once ``stopped`` says so.
    """
    wanted = list(wanted)
    done, total = 0, sum(stored.bytes for stored in wanted)
    for stored in wanted:
        for count in _bring(stored):
            done += count
            progress(done, total)
            if stopped():
                return


def _bring(stored: Stored) -> Iterator[int]:
    """Brings a tensor into memory piece by piece; how many bytes each has.

    Where the system can, in pages of 2 MiB: with those of 4 KiB a decoded token of a true-size
    model takes some 5 % longer. What is in memory already stays as it is.
    """
    if not stored.bytes:
        return
    done = 0
    with stored.file.open("rb", buffering=0) as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                for count in _populated(mapped, stored):
                    done += count
                    yield count
        except (AttributeError, OSError):  # another system, or an old one
            file.seek(stored.start + done)
            yield from _read(file, stored.bytes - done)


def _populated(mapped: mmap.mmap, stored: Stored) -> Iterator[int]:
    page = mmap.PAGESIZE
    step = max(page, PIECE_BYTES // page * page)
    for start in range(stored.start // page * page, stored.stop, step):
        stop = min(start + step, stored.stop)
        system.populate(mapped, start, stop - start)
        yield stop - max(start, stored.start)


def _read(file: FileIO, left: int) -> Iterator[int]:
    buffer = memoryview(bytearray(PIECE_BYTES))
    while left and (count := file.readinto(buffer[: min(left, PIECE_BYTES)])):
        left -= count
        yield count


def some(names: Iterable[str], most: int = 5) -> str:
    """The first of ``names`` and how many more there are."""
    shown = sorted(names)
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises CheckpointError for anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # also where it is not even UTF-8
        raise CheckpointError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds a {type(found).__name__}, expected a JSON object")
    return found


def _entries(file: BinaryIO, path: Path) -> tuple[dict[str, Any], int]:
    """The header as it stands in a file, and where the tensors begin."""
    prefix = file.read(8)
    if prefix == b"version ":
        raise CheckpointError(f"{path} is a Git LFS pointer, not the weights: run `git lfs pull`")
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
    text = file.read(length) if 2 <= length <= MOST_HEADER_BYTES else b""
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, dict):
        raise CheckpointError(f"{path} is damaged: it has no safetensors header: {AGAIN}")
    entries.pop("__metadata__", None)
    return entries, 8 + length


def from_header(name: str, entry: Any, path: Path, types: Mapping[str, int] = ITEM_BYTES) -> Stored:
    """The tensor that a header describes with ``entry``; raises CheckpointError."""
    try:
        dtype, shape = str(entry["dtype"]), tuple(map(int, entry["shape"]))
        start, stop = map(int, entry["data_offsets"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise CheckpointError(
            f"{path} is damaged: its header says nothing sensible about {name}: {AGAIN}"
        ) from None
    if dtype not in types:
        raise CheckpointError(
            f"{path}: {name} is stored as {dtype}, expected {', '.join(types)}: "
            "take the original weights, not ones that another tool converted"
        )
    if start < 0 or stop - start != math.prod(shape) * types[dtype]:
        raise CheckpointError(
            f"{path} is damaged: {name} has {stop - start} bytes for {list(shape)} of {dtype}: "
            f"{AGAIN}"
        )
    return Stored(name, path, dtype, shape, start, stop)


def _official(name: str) -> str | None:
    for candidate in (name, "model." + name):
        if candidate.startswith(tuple(GROUPS.values())):
            return candidate
    return name if name in TIED else None


def _twice(name: str, first: Stored, second: Stored) -> str:
    return (
        f"{first.file.parent}: {name} is in {first.file.name} and in {second.file.name}: remove "
        "the file that does not belong to the model"
    )


def _check_index(folder: Path, found: Mapping[str, Stored]) -> None:
    """Compares `model.safetensors.index.json`, where there is one, with what was found."""
    path = folder / "model.safetensors.index.json"
    if not path.is_file():
        return
    places = read_json(path).get("weight_map")
    if not isinstance(places, dict):
        raise CheckpointError(f"{path} has no weight_map: {AGAIN}")
    present = {file.name for file in folder.glob("*.safetensors")}
    if missing := set(map(str, places.values())) - present:
        raise CheckpointError(
            f"{folder}: {path.name} tells of {some(missing)}, which is not there: download it"
        )
    wrong = [
        name
        for name, file in places.items()
        if name not in TIED and (name not in found or found[name].file.name != file)
    ]
    if wrong:
        raise CheckpointError(
            f"{folder}: {some(wrong)} not in the file that {path.name} says: "
            "download both from the same place"
        )
