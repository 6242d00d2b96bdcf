"""A client that was cut off comes back: nothing of its text is lost or doubled."""

import random
from contextlib import suppress

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from dragoman.server.limits import Limits
from tests.server.servers import SEGMENT_S, Socket, served, text, tone
from tests.waiting import eventually

PATH = "/v1/realtime/translations?rate=16000"
KIND = "session.output_transcript.delta"
SEGMENTS = 12


def speak(url: str, cuts: random.Random | None) -> tuple[str, list[int]]:
    """The text and the numbers of all messages of a session that is cut off now and then."""
    sound, messages = tone(SEGMENTS * SEGMENT_S), []
    socket, sent, number = Socket(url, PATH), 0, 0
    id = socket.created["session"]["id"]
    while sent < len(sound):
        size = cuts.randrange(2_000, 30_000) * 2 if cuts else 60_000
        socket.append(sound[sent : sent + size], "session.")
        sent += size
        if cuts is None:
            continue
        for _ in range(cuts.randrange(4)):
            with suppress(TimeoutError):
                messages.append(socket.receive(0.2))
                number = messages[-1]["seq"]
        socket.cut()
        socket = Socket(url, f"{PATH}&session={id}&after={number}")
        assert socket.created["type"] == "session.resumed"
        assert socket.created["session"]["id"] == id
        sent = socket.created["received_bytes"]
    socket.send("session.close")
    messages += socket.until("session.closed")
    return text(messages, KIND), [message["seq"] for message in messages]


@pytest.fixture(scope="module")
def url(fake):
    with served(fake, limits=Limits(sessions=4)) as url:
        yield url


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_or_doubled(url, seed):
    whole, _ = speak(url, None)
    assert whole.split() == [f"W{n}" for n in range(5)] * SEGMENTS
    again, numbers = speak(url, random.Random(seed))
    assert again == whole
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_newest_connection_has_the_session(url):
    first = Socket(url, PATH)
    id = first.created["session"]["id"]
    second = Socket(url, f"{PATH}&session={id}&after=0")
    second.append(tone(SEGMENT_S), "session.")
    second.send("session.close")
    assert text(second.until("session.closed"), KIND) == "W0 W1 W2 W3 W4"
    with pytest.raises(ConnectionClosed, match="another connection"):
        while True:
            first.receive(20)


def test_a_session_that_nobody_comes_back_to_is_given_up(fake):
    with served(fake, limits=Limits(sessions=1, resume_s=0.2)) as url:
        socket = Socket(url, PATH)
        id = socket.created["session"]["id"]
        socket.cut()
        assert eventually(lambda: 'kind="live"} 0.0' in httpx.get(f"{url}/metrics").text)
        with pytest.raises(InvalidStatus, match="404"):
            Socket(url, f"{PATH}&session={id}")


def test_a_number_that_was_never_sent_is_refused(url):
    socket = Socket(url, PATH)
    id = socket.created["session"]["id"]
    with pytest.raises(InvalidStatus, match="409"):
        Socket(url, f"{PATH}&session={id}&after=7")
    socket.append(np.zeros(8, np.int16).tobytes(), "session.")  # it is still there
    socket.socket.close()
