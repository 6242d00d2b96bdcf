"""Clients that mean harm, one of each kind in a thread.

    python -m benchmarks.hostile URL KEY

sends what is no message, floods, stalls and goes without a word, and asks with wrong keys and from
other origins, over and over until it is ended. Beside :mod:`benchmarks.serve`, which starts it as a
process of its own so that it takes no time from those who are measured.
"""

import argparse
import base64
import json
import random
import socket as sockets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

PATH = "/v1/realtime/translations?rate=16000"
PIECE_S = 2.0
HARMLESS = (ConnectionClosed, InvalidStatus, OSError, httpx.HTTPError, EOFError)


def garbage(url: str, key: str, draw: random.Random) -> None:
    """What is no message, as binary and as text."""
    with _open(url, key) as socket:
        while True:
            data = draw.randbytes(draw.randrange(5_000))
            socket.send(data if draw.random() < 0.5 else data.decode("latin-1"))


def flood(url: str, key: str, draw: random.Random) -> None:
    """Sound as fast as it is taken."""
    with _open(url, key) as socket:
        while True:
            _append(socket, PIECE_S)


def stall(url: str, key: str, draw: random.Random) -> None:
    """Says that much will come, and sends nothing; or goes in the middle of a session."""
    place = urlsplit(url)
    with sockets.create_connection((place.hostname, place.port), 10) as connection:
        connection.sendall(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\n"
            b"Authorization: Bearer " + key.encode() + b"\r\nContent-Length: 99999\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x"
        )
        time.sleep(draw.random())
    with _open(url, key) as lost:
        _append(lost, draw.random())
        lost.socket.close()


def strange(url: str, key: str, draw: random.Random) -> None:
    """Wrong keys, other origins, other paths."""
    told = {"Authorization": f"Bearer {key}", "Origin": "https://evil.example"}
    for headers in ({"Authorization": "Bearer x"}, told):
        with suppress(InvalidStatus), connect(_address(url), additional_headers=headers):
            pass
        httpx.post(f"{url}/v1/audio/transcriptions", headers=headers, content=bytes(9_999))
        httpx.get(f"{url}/captions/..%2f..%2fetc%2fpasswd", headers=headers)


KINDS: tuple[Callable[[str, str, random.Random], None], ...] = (garbage, flood, stall, strange)


def begin(url: str, key: str, ending: threading.Event) -> list[threading.Thread]:
    """One thread of each kind, until ``ending``."""

    def over_and_over(harm: Callable[[str, str, random.Random], None], seed: int) -> None:
        draw = random.Random(seed)
        while not ending.is_set():
            with suppress(*HARMLESS):
                harm(url, key, draw)

    threads = [
        threading.Thread(target=over_and_over, args=(harm, seed), daemon=True)
        for seed, harm in enumerate(KINDS)
    ]
    for thread in threads:
        thread.start()
    return threads


def _address(url: str) -> str:
    return f"ws{url.removeprefix('http')}{PATH}"


def _open(url: str, key: str) -> ClientConnection:
    return connect(_address(url), additional_headers={"Authorization": f"Bearer {key}"})


def _append(socket: ClientConnection, seconds: float) -> None:
    sound = base64.b64encode(b"\x00\x10" * round(16_000 * seconds)).decode("ascii")
    socket.send(json.dumps({"type": "session.input_audio_buffer.append", "audio": sound}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key")
    args = parser.parse_args()
    for thread in begin(args.url, args.key, threading.Event()):
        thread.join()


if __name__ == "__main__":
    main()
