"""Servers for tests, and clients: OpenAI's own, and a plain web socket."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from openai import OpenAI
from websockets.sync.client import connect

from dragoman.captioner import Captioner
from dragoman.server.app import application
from dragoman.server.limits import Limits
from dragoman.server.serving import serving
from tests.pipeline.chains import in_process
from tests.pipeline.fake_stages import CHUNKS_A_SEGMENT, fakes

SEGMENT_S = CHUNKS_A_SEGMENT * 0.16  # of the fake stages


class FakeCaptioner(Captioner):
    """Says a word a chunk, of whatever it hears."""

    def __enter__(self) -> Captioner:
        self._chain = in_process(fakes())
        return self


@contextmanager
def served(captioner: Captioner, **options) -> Iterator[str]:
    """The address of a server, without the slash at its end."""
    app = application(captioner, **options)
    limits = options.get("limits") or Limits()
    with serving(app, "127.0.0.1", 0, None, limits.message_bytes, limits.places) as url:
        yield url.rstrip("/")


def client(url: str, key: str = "none") -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=120)


class Socket:
    """A client without a library: one JSON object a message."""

    def __init__(self, url: str, path: str, **options) -> None:
        self.socket = connect(f"ws{url.removeprefix('http')}{path}", **options)
        self.created = self.receive()

    def __enter__(self) -> "Socket":
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    def send(self, kind: str, **fields) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def append(self, data: bytes, prefix: str = "") -> None:
        for piece in pieces(data):
            self.send(f"{prefix}input_audio_buffer.append", audio=piece)

    def receive(self, timeout: float = 60) -> dict:
        return json.loads(self.socket.recv(timeout))

    def until(self, kind: str) -> list[dict]:
        """All messages up to one of ``kind``."""
        found = [self.receive()]
        while found[-1]["type"] != kind:
            assert found[-1]["type"] != "error", found[-1]
            found.append(self.receive())
        return found

    def cut(self) -> None:
        """The connection is lost, without a word."""
        self.socket.socket.close()


def pieces(data: bytes, size: int = 9_600) -> list[str]:
    return [
        base64.b64encode(data[at : at + size]).decode("ascii") for at in range(0, len(data), size)
    ]


def tone(seconds: float, rate_hz: int = 16_000) -> bytes:
    return np.full(round(seconds * rate_hz), 3_000, "<i2").tobytes()


def text(messages: list[dict], kind: str) -> str:
    return "".join(message["delta"] for message in messages if message["type"] == kind)
