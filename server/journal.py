"""What of a live session is on disk, so that another process can go on with it.

Below :mod:`server.speaker`. Two things are kept: a line for whatever made messages (a caption, a
turn, a setting), from which the same messages with the same numbers are made again; and the newest
sound, as it came. Both are written before a client can know of what they lead to. They survive the
process, not the machine: nothing waits for the disk.

What is unusual: the sound is in files of some seconds, named by where they begin. So what is old
goes without anything being written again, and the disk that a session takes is bounded. One process
at a time has a session, by a lock that the system gives back when it dies; another that is asked
for the session asks the first one for it, by a file.
"""

import json
import os
import platform
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from dragoman import system
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption, Text

FILE_S = 10  # of sound in one file
FILES = 13  # so two minutes are kept at least: more than an open segment and the sound that waits
TEXTS = ("transcript", "translation")
LINES, HELD, WANTED = "journal.jsonl", "held", "wanted"  # names of files
OVER = "over"  # the last line of a session
POLL_S = 0.2  # how often who follows looks for more


class Sound(NamedTuple):
    """PCM16 at ``rate_hz``; the first sample at ``index``, counted at 16 kHz."""

    index: int
    rate_hz: int
    data: bytes


class Journal:
    """The files of one session in ``folder``, which this process alone writes until it lets go.

    Raises BlockingIOError where another process has the folder, FileNotFoundError where there is
    none: the session has ended.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._lines = folder, folder / LINES
        self._lock, self._closed = threading.Lock(), False
        self._held = (folder / HELD).open("a", encoding="utf-8")
        try:
            self._hold()
            self._mend()
        except BaseException:
            self._held.close()
            raise
        self.received_bytes = sum(path.stat().st_size for path in self._sounds()[-1:])
        self.received_bytes += sum(_begin(path)[0] for path in self._sounds()[-1:])

    @classmethod
    def begin(cls, folder: Path) -> "Journal":
        """That of a new session."""
        folder.mkdir(mode=0o700)
        return cls(folder)

    @property
    def end(self) -> int:
        """The index behind the newest sound, counted at 16 kHz."""
        return max((_end(path) for path in self._sounds()[-1:]), default=0)

    @property
    def is_wanted(self) -> bool:
        """Whether another process has asked for it."""
        return (self._folder / WANTED).exists()

    def write(self, record: dict[str, Any]) -> None:
        """Adds one line."""
        with self._lock:
            if not self._closed:
                with self._lines.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def records(self) -> Iterator[dict[str, Any]]:
        """The lines in order."""
        with suppress(FileNotFoundError), self._lines.open(encoding="utf-8") as file:
            yield from map(json.loads, file)

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

    def sound(self, since: int, until: int) -> list[Sound]:
        """The sound from index ``since`` to ``until``, as far as it is kept."""
        cut = [_cut(path, since, until) for path in self._sounds() if _end(path) > since]
        return [sound for sound in cut if sound.data]

    def release(self) -> None:
        """Leaves the session to whoever takes it; what comes now is not kept."""
        with self._lock:
            self._closed = True
            self._held.close()

    def close(self) -> None:
        """Forgets the session; what comes now is not kept."""
        with self._lock:
            self._closed = True
            shutil.rmtree(self._folder, ignore_errors=True)
            self._held.close()

    def _hold(self) -> None:
        system.lock(self._held.fileno(), wait=False)
        if not (self._folder / HELD).exists():  # whoever had it has removed it
            raise FileNotFoundError(self._folder)
        self._held.truncate(0)
        self._held.write(f"{os.getpid()} on {platform.node()}\n")  # for people
        self._held.flush()
        (self._folder / WANTED).unlink(missing_ok=True)

    def _mend(self) -> None:
        """Cuts off what a process was writing when it was killed: half a line, half a sample."""
        if self._lines.exists():
            with self._lines.open("rb+") as file:
                file.truncate(file.read().rfind(b"\n") + 1)
        for path in self._sounds()[-1:]:
            os.truncate(path, path.stat().st_size // 2 * 2)

    def _sounds(self) -> list[Path]:
        return sorted(self._folder.glob("*.pcm"))


def ask_for(folder: Path) -> None:
    """Asks the process that has the session in ``folder`` to let go of it; raises
    FileNotFoundError where it has ended.
    """
    (folder / WANTED).touch()


def head_of(folder: Path) -> dict[str, Any] | None:
    """The first line in ``folder``, None where there is none."""
    with suppress(FileNotFoundError), (folder / LINES).open("rb") as file:
        line = file.readline()
        return json.loads(line) if line.endswith(b"\n") else None


def follow(folder: Path, left: threading.Event) -> Iterator[dict[str, Any]]:
    """The lines in ``folder`` as another process writes them, until the session has ended or is
    ``left``.

    A line is read once it is whole: half a one may be cut off, and another be written there.
    """
    lines, at = folder / LINES, 0
    while not left.wait(POLL_S):
        try:
            with lines.open("rb") as file:
                file.seek(at)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        at += len(whole)
        for line in whole.splitlines():
            record = json.loads(line)
            yield record
            if record["do"] == OVER:
                return


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


def _cut(path: Path, since: int, until: int) -> Sound:
    _, index, rate_hz = _begin(path)
    first, last = (max(0, at - index) * rate_hz // SAMPLE_RATE_HZ for at in (since, until))
    return Sound(max(index, since), rate_hz, path.read_bytes()[2 * first : 2 * last])
