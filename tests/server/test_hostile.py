"""Some clients mean harm: what the others are told is what a quiet server tells."""

import random
import socket as sockets
import threading
import time
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from dragoman.server.access import Rules
from dragoman.server.limits import Limits
from tests.pipeline.fake_stages import CHUNKS_A_SEGMENT
from tests.server.servers import SEGMENT_S, Socket, served, text, tone
from tests.waiting import eventually

KEY = {"Authorization": "Bearer the-key"}
PATH = "/v1/realtime/translations?rate=16000"
HONEST, SEGMENTS = 6, 8


def speak(url: str, found: dict[int, str], place: int) -> None:
    """An honest client, in pieces as they are spoken, but three times as fast."""
    sound, draw = tone(SEGMENTS * SEGMENT_S), random.Random(place)
    with Socket(url, PATH, additional_headers=KEY) as socket:
        at = 0
        while at < len(sound):
            size = 2 * draw.randrange(800, 6_400)
            socket.append(sound[at : at + size], "session.")
            at += size
            time.sleep(size / 2 / 16_000 / 3)
        socket.send("session.close")
        found[place] = text(socket.until("session.closed"), "session.output_transcript.delta")


def garbage(url: str, draw: random.Random) -> None:
    with Socket(url, PATH, additional_headers=KEY) as socket:
        while True:
            socket.socket.send(draw.randbytes(draw.randrange(5_000)))


def flood(url: str, draw: random.Random) -> None:
    with Socket(url, PATH, additional_headers=KEY) as socket:
        while True:
            socket.append(tone(2.0), "session.")


def stall(url: str, draw: random.Random) -> None:
    """Says that much will come, and sends nothing; or goes in the middle of a session."""
    place = urlsplit(url)
    with sockets.create_connection((place.hostname, place.port), 10) as connection:
        connection.sendall(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\n"
            b"Authorization: Bearer the-key\r\nContent-Length: 99999\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x"
        )
        time.sleep(draw.random())
    lost = Socket(url, PATH, additional_headers=KEY)
    lost.append(tone(draw.random()), "session.")
    lost.cut()


def strange(url: str, draw: random.Random) -> None:
    """Wrong keys, other origins, other paths."""
    for headers in ({"Authorization": "Bearer x"}, {**KEY, "Origin": "https://evil.example"}):
        with suppress(InvalidStatus):
            Socket(url, PATH, additional_headers=headers)
        httpx.post(f"{url}/v1/audio/transcriptions", headers=headers, content=bytes(9_999))
        httpx.get(f"{url}/captions/..%2f..%2fetc%2fpasswd", headers=headers)


@pytest.mark.timeout(120)
def test_honest_clients_are_told_the_same_among_hostile_ones(fake):
    found: dict[int, str] = {}
    ending = threading.Event()

    def harm(what, seed: int) -> None:
        draw = random.Random(seed)
        while not ending.is_set():
            with suppress(ConnectionClosed, InvalidStatus, OSError):
                what(url, draw)

    limits = Limits(sessions=12, files=2, ahead_s=5.0, upload_s=1.0)
    with served(fake, rules=Rules("the-key"), limits=limits) as url:
        hostile = [
            threading.Thread(target=harm, args=(what, seed), daemon=True)
            for seed, what in enumerate((garbage, flood, stall, strange))
        ]
        honest = [
            threading.Thread(target=speak, args=(url, found, place)) for place in range(HONEST)
        ]
        for thread in [*honest, *hostile]:
            thread.start()
        for thread in honest:
            thread.join(100)
        ending.set()
        for thread in hostile:
            thread.join(20)
        words = " ".join(f"W{n}" for n in range(CHUNKS_A_SEGMENT))
        assert found == dict.fromkeys(range(HONEST), " ".join([words] * SEGMENTS))
        assert httpx.get(f"{url}/health").status_code == 200
        lost = Socket(url, PATH, additional_headers=KEY)  # there is room again
        lost.socket.close()
    assert eventually(lambda: not [t for t in threading.enumerate() if t.name == "server-session"])
