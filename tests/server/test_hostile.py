"""Some clients mean harm: what the others are told is what a quiet server tells."""

import random
import threading
import time

import httpx
import pytest

from benchmarks.hostile import begin
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


@pytest.mark.timeout(120)
def test_honest_clients_are_told_the_same_among_hostile_ones(fake):
    found: dict[int, str] = {}
    ending = threading.Event()

    limits = Limits(sessions=12, files=2, ahead_s=5.0, upload_s=1.0)
    with served(fake, rules=Rules("the-key"), limits=limits) as url:
        honest = [
            threading.Thread(target=speak, args=(url, found, place)) for place in range(HONEST)
        ]
        hostile = begin(url, "the-key", ending)
        for thread in honest:
            thread.start()
        for thread in honest:
            thread.join(100)
        ending.set()
        for thread in hostile:
            thread.join(20)
        words = " ".join(f"W{n}" for n in range(CHUNKS_A_SEGMENT))
        assert found == dict.fromkeys(range(HONEST), " ".join([words] * SEGMENTS))
        assert httpx.get(f"{url}/health").status_code == 200
        figures = httpx.get(f"{url}/metrics", headers=KEY).text
        for code in ("invalid_json", "sound_too_far_ahead", "upload_broken", "invalid_api_key"):
            assert f'dragoman_refusals_total{{code="{code}"}}' in figures
        lost = Socket(url, PATH, additional_headers=KEY)  # there is room again
        lost.socket.close()
    assert eventually(lambda: not [t for t in threading.enumerate() if t.name == "server-session"])
