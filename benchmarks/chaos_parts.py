"""What goes on during `benchmarks.chaos`: a speaker, a batch, a page, and its visitors.

Each is a command of the project in a process of its own, with a Ray of its own; one that was killed
comes back, as people would start it again. Unusual: sound goes on meanwhile, as it does for people,
so what comes back begins with the sound of that moment.
"""

import json
import signal
import subprocess
import sys
import time
import wave
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import processes
from dragoman.pipeline.saving import UNFINISHED
from dragoman.stages.messages import SAMPLE_RATE_HZ

ACTOR, RAYLET, HEAD = "ray::RayRunner", "raylet", "gcs_server"
DRIVER, CLIENT = "driver", "client"
PATIENCE_S = 180.0
TRIES = 5  # of a batch that ends before its work
GOES_ON = "the same command goes on"  # says a run that could not


class Sound:
    """int16 [S] at 16 kHz, of which each moment is heard once, from ``begin`` on."""

    def __init__(self, samples: np.ndarray) -> None:
        self.samples, self._begin = samples, time.monotonic()

    @property
    def now(self) -> int:
        """The sample that is being spoken."""
        return round(SAMPLE_RATE_HZ * (time.monotonic() - self._begin))

    @property
    def over(self) -> bool:
        return self.now >= len(self.samples)


@dataclass(frozen=True)
class Left:
    """What a process left: the document about the sound from sample ``start`` on, None where there
    is none; whether that came to its ``end``, and the final captions that were ``shown`` before.
    """

    start: int
    document: dict[str, Any] | None
    ended: bool
    shown: tuple[dict[str, Any], ...] = ()


class Part(ABC):
    """Processes that may be killed, under ``folder``."""

    name: str
    kinds: tuple[str, ...]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.codes: list[int] = []  # of processes that ended by themselves
        folder.mkdir(parents=True)

    @abstractmethod
    def victims(self, kind: str) -> list[int]:
        """Processes of a kind that are there now."""

    @abstractmethod
    def poll(self) -> bool:
        """Starts again what was killed; whether something is still to be done."""

    @abstractmethod
    def close(self) -> None:
        """Ends what is left."""


class Command(Part):
    """One command at a time."""

    kinds = (ACTOR, RAYLET, HEAD, DRIVER)
    process: subprocess.Popen[bytes]
    _told: subprocess.Popen[bytes] | None = None  # the last whose code is kept

    def run(self, out: Path, *words: object) -> None:
        """Starts `dragoman WORDS`, whose stdout goes to the file ``out``."""
        with out.open("wb") as stdout, (self.folder / "stderr.log").open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dragoman.demos.cli", *map(str, words)],
                stdout=stdout,
                stderr=stderr,
            )

    def victims(self, kind: str) -> list[int]:
        if self.process.poll() is not None:
            return []
        if kind == DRIVER:
            return [self.process.pid]
        return [pid for pid, name in processes.below(self.process.pid).items() if name == kind]

    def killed(self) -> bool | None:
        """Whether the process was killed; None while it runs, a code of its own is kept once."""
        code = self.process.poll()
        if code is not None and code != -signal.SIGKILL and self.process is not self._told:
            self._told = self.process
            self.codes.append(code)
        return None if code is None else code == -signal.SIGKILL

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE_S)


class Speaker(Command):
    """`dragoman captions` of the rest of the sound, in real time."""

    name = "live"

    def __init__(self, folder: Path, sound: Sound, model: str) -> None:
        super().__init__(folder)
        self._sound, self._model = sound, model
        self._starts: list[int] = []
        self._speak(0)

    def poll(self) -> bool:
        if self.killed() is None:
            return True
        goes_on = len(self._sound.samples) - self._sound.now > SAMPLE_RATE_HZ
        if goes_on:
            self._speak(self._sound.now)
        return goes_on

    def left(self) -> list[Left]:
        """What all its processes left."""
        return [self._left(number, start) for number, start in enumerate(self._starts)]

    def _speak(self, start: int) -> None:
        number = len(self._starts)
        self._starts.append(start)
        path = write_wav(self.folder / f"piece-{number}.wav", self._sound.samples[start:])
        out = self.folder / f"piece-{number}.events"
        self.run(out, "captions", path, "--model", self._model, "--json", "-o", self.folder)

    def _left(self, number: int, start: int) -> Left:
        name = f"piece-{number}"
        whole = self.folder / f"{name}.json"
        path = whole if whole.exists() else self.folder / f"{name}.{UNFINISHED}.json"
        form = json.loads(path.read_text()) if path.exists() else None
        lines = (self.folder / f"{name}.events").read_text().splitlines()
        events = [json.loads(line) for line in lines if line.endswith("}")]
        shown = tuple(event for event in events if event["kind"] == "final")
        return Left(start, form, whole.exists(), shown)


class Batch(Command):
    """`dragoman translate` of a folder, started again until it comes to its end."""

    name = "batch"

    def __init__(self, folder: Path, inputs: Path, model: str) -> None:
        super().__init__(folder)
        self._words = (inputs, "--model", model, "--json", "--workers", 1, "-o", folder / "out")
        self._begin()

    def poll(self) -> bool:
        killed = self.killed()
        if killed is None:
            return True
        going_on = killed or (self._gave_up() and len(self.codes) < TRIES)
        if going_on:
            self._begin()
        return going_on

    def _gave_up(self) -> bool:
        """Whether the last process ended before its work, so that the same command goes on."""
        told = (self.folder / "summary.json").read_text()
        return not told or any(
            GOES_ON in file["reason"] for file in json.loads(told)["files"] if "reason" in file
        )

    def _begin(self) -> None:
        self.run(self.folder / "summary.json", "translate", *self._words)


class Page(Command):
    """`dragoman demo`; its visitors are a part of their own."""

    name = "page"
    kinds = (ACTOR, RAYLET, HEAD)

    def __init__(self, folder: Path, model: str) -> None:
        super().__init__(folder)
        out = self.folder / "stdout.log"
        self.run(out, "demo", "--no-browser", "--port", 0, "--model", model)
        end = time.monotonic() + PATIENCE_S
        while "http" not in out.read_text():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the page did not start: see {self.folder / 'stderr.log'}")
            time.sleep(0.1)
        self.url = next(word for word in out.read_text().split() if word.startswith("http"))

    def poll(self) -> bool:
        self.killed()
        return False


class Visitors(Part):
    """People who speak to the page, each from another moment of the sound."""

    name = "visitors"
    kinds = (CLIENT,)

    def __init__(self, folder: Path, sound: Sound, url: str, number: int) -> None:
        super().__init__(folder)
        self._sound, self._url = sound, url
        self._all: list[tuple[int, Path, subprocess.Popen[bytes]]] = []
        self._number = number
        for _ in range(number):
            self._come()

    def victims(self, kind: str) -> list[int]:
        return [who.pid for _, _, who in self._all if kind == CLIENT and who.poll() is None]

    def poll(self) -> bool:
        killed = sum(who.poll() == -signal.SIGKILL for _, _, who in self._all)
        for _ in range(self._number + killed - len(self._all)):
            if not self._sound.over:
                self._come()
        return any(who.poll() is None for _, _, who in self._all)

    def left(self) -> list[Left]:
        found = []
        for start, path, who in self._all:
            form = json.loads(path.read_text()) if path.exists() else None
            found.append(Left(start, form, form is not None and form["ended"]))
            self.codes += [who.returncode] if who.returncode not in (0, -signal.SIGKILL) else []
        return found

    def close(self) -> None:
        for _, _, who in self._all:
            who.kill()
            who.wait(PATIENCE_S)

    def _come(self) -> None:
        number, start = len(self._all), self._sound.now
        sound = self.folder / f"{number}.raw"
        sound.write_bytes(self._sound.samples[start:].tobytes())
        out = self.folder / f"{number}.json"
        words = [sys.executable, "-m", "benchmarks.chaos_visitor", self._url, str(sound), str(out)]
        self._all.append((start, out, subprocess.Popen(words)))


def write_wav(path: Path, samples: np.ndarray) -> Path:
    """int16 [S] at 16 kHz as a WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(samples.astype("<i2").tobytes())
    return path
