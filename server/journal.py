"""What of a live session is on disk, so that another process can go on with it.

Below :mod:`server.speaker`. Two things are kept: a line for whatever made messages (a caption, a
turn, a setting), from which the same messages with the same numbers are made again; and the newest
sound, as it came. Both are written before a client can know of what they lead to. They survive the
process, not the machine: nothing waits for the disk.

What is unusual: the sound is in files of some seconds, named by where they begin. So what is old
goes without anything being written again, and the disk that a session takes is bounded.
"""

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption, Text

FILE_S = 10  # of sound in one file
FILES = 13  # so two minutes are kept at least: more than an open segment and the sound that waits
TEXTS = ("transcript", "translation")


class Sound(NamedTuple):
    """PCM16 at ``rate_hz``; the first sample at ``index``, counted at 16 kHz."""

    index: int
    rate_hz: int
    data: bytes


class Journal:
    """The files of one session in ``folder``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder, self._lines = folder, folder / "journal.jsonl"
        self._lock, self._closed = threading.Lock(), False
        self.received_bytes = sum(path.stat().st_size for path in self._sounds()[-1:])
        self.received_bytes += sum(_begin(path)[0] for path in self._sounds()[-1:])

    def write(self, record: dict[str, Any]) -> None:
        """Adds one line."""
        with self._lock:
            if not self._closed:
                with self._lines.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def records(self) -> Iterator[dict[str, Any]]:
        """The lines that are whole, in order."""
        with self._lines.open(encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    yield json.loads(line)

    def hear(self, data: bytes, rate_hz: int) -> None:
        """Keeps sound behind what is kept, and forgets what is too old."""
        with self._lock:
            if not self._closed:
                self._hear(data, rate_hz)

    def _hear(self, data: bytes, rate_hz: int) -> None:
        sounds = self._sounds()
        path = sounds[-1] if sounds else None
        full = path is not None and path.stat().st_size >= 2 * FILE_S * rate_hz
        if path is None or full or _begin(path)[2] != rate_hz:
            index = 0 if path is None else _end(path)
            path = self._folder / f"{self.received_bytes:015}.{index:015}.{rate_hz}.pcm"
            for old in sounds[: max(0, len(sounds) + 1 - FILES)]:
                old.unlink()
        with path.open("ab") as file:
            file.write(data)
        self.received_bytes += len(data)

    def sound(self, since: int) -> list[Sound]:
        """The sound from index ``since`` on, as far as it is kept."""
        return [_cut(path, since) for path in self._sounds() if _end(path) > since]

    def close(self) -> None:
        """Forgets the session; what comes now is not kept."""
        with self._lock:
            self._closed = True
        shutil.rmtree(self._folder, ignore_errors=True)

    def _sounds(self) -> list[Path]:
        return sorted(self._folder.glob("*.pcm"))


def caption_record(caption: Caption) -> dict[str, Any]:
    """A caption as a line has it; pictures and latencies lead to no messages."""
    return {**asdict(replace(caption, frames=(), latency={}))}


def caption_of(record: dict[str, Any]) -> Caption:
    """The caption that was written as ``record``."""
    fields = {**record, "frames": (), "guards": tuple(record["guards"])}
    for name in TEXTS:
        told = record[name]
        fields[name] = Text(told["committed"], told["tail"], tuple(told["confidences"]))
    return Caption(**fields)


def _begin(path: Path) -> tuple[int, int, int]:
    """Of a file of sound: the bytes before it, its index, its rate."""
    before, index, rate_hz = path.name.split(".")[:3]
    return int(before), int(index), int(rate_hz)


def _end(path: Path) -> int:
    _, index, rate_hz = _begin(path)
    return index + path.stat().st_size // 2 * SAMPLE_RATE_HZ // rate_hz


def _cut(path: Path, since: int) -> Sound:
    _, index, rate_hz = _begin(path)
    skipped = max(0, since - index) * rate_hz // SAMPLE_RATE_HZ
    data = path.read_bytes()[2 * skipped :]
    return Sound(max(index, since), rate_hz, data[: len(data) // 2 * 2])
