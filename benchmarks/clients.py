"""A server as users start it, and clients that speak to it as people do, in real time.

Below :mod:`benchmarks.serve`. What is measured is what a client sees: from the moment at which a
piece of sound was sent to the delta that was made with it (its `audio_end_ms`). Deltas of final
captions do not count: they wait for the pause that ends a segment, which is a setting.

Unusual: the clients share the machine's cores with the server, so figures are low rather than high.
"""

import asyncio
import base64
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from dragoman.server.serving import KEY
from dragoman.stages.messages import CHUNK_SAMPLES, SAMPLE_RATE_HZ

ROOT = Path(__file__).resolve().parents[1]
PATH = "/v1/realtime?intent=transcription&rate=16000"
DELTA = "conversation.item.input_audio_transcription.delta"
COMPLETED = "conversation.item.input_audio_transcription.completed"
STOPPED = "input_audio_buffer.speech_stopped"
CHUNK_S = CHUNK_SAMPLES / SAMPLE_RATE_HZ
SILENCE_S = 2.0  # behind the speech: more than the pause that ends a segment
QUIET_S, PATIENCE_S = 10.0, 60.0  # after the last sound: nothing more comes; something is lost
AGAIN_S = 1.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Server:
    """A process of `dragoman serve`, and all that it started."""

    process: subprocess.Popen[str]
    url: str

    def memory_bytes(self) -> int:
        """Of all its processes together, what they share counted for each."""
        parents, sizes = {}, {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                size = int((folder / "statm").read_text().split()[1])
            except OSError:  # it has ended
                continue
            parents[int(folder.name)], sizes[int(folder.name)] = parent, PAGE_BYTES * size
        ours = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
            ours |= more
        return sum(sizes.get(pid, 0) for pid in ours)


@contextmanager
def server(options: Sequence[str], key: str = "") -> Iterator[Server]:
    """`dragoman serve` with ``options`` while the context lasts; raises RuntimeError."""
    command = [sys.executable, "-m", "dragoman.demos.cli", "serve", "--port", "0", *options]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, KEY: key}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://[^/\s]+", process.stdout.readline())
        if found is None:
            raise RuntimeError(f"{' '.join(command)} did not start: run it by itself")
        yield Server(process, found[0])
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()
        process.wait()


@dataclass
class Heard:
    """What clients were told; ``texts`` of whole sessions, ``deltas`` of all."""

    texts: list[str] = field(default_factory=list[str])
    latencies_ms: list[float] = field(default_factory=list[float])
    deltas: int = 0
    refused: int = 0
    broken: list[str] = field(default_factory=list[str])

    @property
    def p95_ms(self) -> float:
        if len(self.latencies_ms) < 2:
            return float("inf")
        return statistics.quantiles(self.latencies_ms, n=20)[-1]


class Client:
    """One who says ``sound``, float32 [S], of so many ``segments``, in sessions one by one."""

    def __init__(
        self, url: str, sound: np.ndarray, heard: Heard, segments: int | None = None, key: str = ""
    ) -> None:
        silence = np.zeros(round(SILENCE_S * SAMPLE_RATE_HZ), np.float32)
        pcm = (np.concatenate([sound, silence]) * 32_767).astype("<i2").tobytes()
        size = 2 * CHUNK_SAMPLES
        self._pieces = [pcm[at : at + size] for at in range(0, len(pcm), size)]
        self._url, self._heard = f"ws{url.removeprefix('http')}{PATH}", heard
        self._segments = segments
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def speak(self) -> None:
        """One session; a refusal, or a connection that broke, is noted."""
        try:
            async with connect(self._url, additional_headers=self._headers) as socket:
                await self._session(socket)
        except InvalidStatus:
            self._heard.refused += 1
            await asyncio.sleep(AGAIN_S)
        except (ConnectionClosed, OSError, TimeoutError) as error:
            self._heard.broken.append(f"{type(error).__name__} {error}".strip())

    async def speak_until(self, end: float) -> None:
        """Sessions that begin before ``end`` of the monotonic clock."""
        while time.monotonic() < end:
            await self.speak()

    async def _session(self, socket: Any) -> None:
        await socket.recv()
        begin = time.monotonic()
        sending = asyncio.create_task(self._send(socket, begin))
        try:
            self._heard.texts.append(await self._listen(socket, begin))
        finally:
            sending.cancel()

    async def _send(self, socket: Any, begin: float) -> None:
        for number, piece in enumerate(self._pieces):
            # A piece can be sent when its last sample was said.
            await asyncio.sleep(begin + (number + 1) * CHUNK_S - time.monotonic())
            sound = base64.b64encode(piece).decode("ascii")
            await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": sound}))

    async def _listen(self, socket: Any, begin: float) -> str:
        """The text of all segments; where their number is not known, until nothing more comes."""
        texts: list[str] = []
        waiting: list[float] = []  # of a delta: what follows tells whether its caption is final
        patience_s = QUIET_S if self._segments is None else PATIENCE_S
        end = begin + CHUNK_S * len(self._pieces) + patience_s
        while self._segments is None or len(texts) < self._segments:
            try:
                async with asyncio.timeout(end - time.monotonic()):
                    message = json.loads(await socket.recv())
            except TimeoutError:
                if self._segments is None:
                    break
                raise
            if message["type"] != STOPPED:
                self._heard.latencies_ms += waiting
            waiting.clear()
            if message["type"] == DELTA:
                self._heard.deltas += 1
                pieces = -(-message["audio_end_ms"] // round(1000 * CHUNK_S))
                waiting.append(1000 * (time.monotonic() - begin - pieces * CHUNK_S))
            elif message["type"] == COMPLETED:
                texts.append(f"{message['transcript']} | {message['translation']}")
        return "\n".join(texts)
