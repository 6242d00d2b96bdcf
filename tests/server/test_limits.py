"""Each limit of a live session: what is refused, how, and that others notice nothing."""

import json
import time
from contextlib import suppress
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from dragoman.server.limits import Allowance, Limits, Places
from dragoman.server.refusals import Refusal
from tests.pipeline.chains import in_process
from tests.pipeline.fake_stages import fakes
from tests.server.servers import SEGMENT_S, FakeCaptioner, Socket, served, text, tone
from tests.waiting import eventually

PATH = "/v1/realtime?intent=transcription&rate=16000"


def closed(socket: Socket) -> tuple[int, str]:
    """The close code, and the code of the error that came before."""
    code = ""
    try:
        while True:
            message = socket.receive(20)
            if message["type"] == "error":
                code = message["error"]["code"]
    except ConnectionClosed as error:
        assert error.rcvd is not None
        return error.rcvd.code, code


def status(url: str, path: str = PATH) -> tuple[int, str]:
    """The answer to a handshake that is refused."""
    with pytest.raises(InvalidStatus) as raised:
        Socket(url, path)
    answer = raised.value.response
    return answer.status_code, json.loads(answer.body or b"{}")["error"]["code"]


def test_sessions_beyond_the_places_are_refused_at_once(fake):
    with served(fake, limits=Limits(sessions=2)) as url:
        first, second = Socket(url, PATH), Socket(url, PATH)
        assert status(url) == (429, "server_full")
        first.socket.close()
        third = eventually(lambda: _tried(url))
        for socket in (second, third):
            socket.append(tone(SEGMENT_S))
            assert socket.until("input_audio_buffer.speech_stopped")
            socket.socket.close()


def _tried(url: str) -> Any:
    try:
        return Socket(url, PATH)
    except InvalidStatus:
        return None


def test_a_session_without_a_connection_makes_room(fake):
    with served(fake, limits=Limits(sessions=1)) as url:
        lost = Socket(url, PATH)
        lost.cut()
        eventually(lambda: _tried(url)).socket.close()
        id = lost.created["session"]["id"]
        assert status(url, f"{PATH}&session={id}") == (404, "session_not_found")


def test_too_large_a_message_closes_the_connection(fake):
    with served(fake) as url:
        socket = Socket(url, PATH)
        socket.socket.send("x" * (Limits().message_bytes + 1))
        assert closed(socket)[0] == 1009


def test_messages_that_come_too_fast_close_the_connection(fake):
    with served(fake, limits=Limits(burst_messages=50, messages_per_s=1)) as url:
        socket = Socket(url, PATH)
        with suppress(ConnectionClosed):
            for _ in range(60):
                socket.append(bytes(2))
        assert closed(socket) == (1013, "too_many_messages")


def test_nonsense_closes_the_connection_in_the_end(fake):
    with served(fake, limits=Limits(faults=3)) as url:
        socket = Socket(url, PATH)
        with suppress(ConnectionClosed):
            for _ in range(10):
                socket.socket.send("garbage")
        assert closed(socket) == (1008, "invalid_json")


def test_silence_of_the_client_ends_the_session(fake):
    with served(fake, limits=Limits(idle_s=0.5)) as url:
        socket = Socket(url, PATH)
        for _ in range(4):
            time.sleep(0.3)
            socket.append(tone(0.16))  # it is not idle
        assert closed(socket) == (3008, "session_idle")


def test_a_session_ends_after_its_time(fake):
    with served(fake, limits=Limits(session_s=0.5)) as url:
        assert closed(Socket(url, PATH)) == (3008, "session_expired")


class Slow(FakeCaptioner):
    def __enter__(self):
        self._chain = in_process(fakes(delay_s=1.0))
        return self


def test_sound_that_nobody_can_hear_in_time_is_refused_and_others_are_heard(tmp_path):
    with Slow() as slow, served(slow, limits=Limits(ahead_s=2), state=tmp_path) as url:
        flood, other = Socket(url, PATH), Socket(url, "/v1/realtime/translations?rate=16000")
        other.append(tone(SEGMENT_S), "session.")
        with suppress(ConnectionClosed):
            flood.append(tone(20))
        other.send("session.close")
        assert closed(flood) == (1013, "sound_too_far_ahead")
        written = text(other.until("session.closed"), "session.output_transcript.delta")
        assert written == "W0 W1 W2 W3 W4"
        eventually(lambda: figure(url, 'dragoman_sessions{kind="live"}') == 0)
        heard = figure(url, 'dragoman_heard_sound_seconds_total{kind="live"}')
        kept = (tmp_path / flood.created["session"]["id"]).glob("*.pcm")
        taken = sum(path.stat().st_size for path in kept) / 2 / 16_000
        assert heard - SEGMENT_S < taken - 1.5  # what waited was not heard any more


def figure(url: str, name: str) -> float:
    """One line of the metrics."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(name))


def test_a_client_that_does_not_read_is_left_behind(fake):
    with served(fake, limits=Limits(window=5)) as url:
        socket = Socket(url, PATH)
        socket.append(tone(SEGMENT_S))
        with suppress(AssertionError):  # a busy machine leaves it behind here already
            socket.until("input_audio_buffer.speech_stopped")
        socket.cut()
        id = socket.created["session"]["id"]
        found = eventually(lambda: status(url, f"{PATH}&session={id}&after=0"))
        assert found == (409, "too_far_behind")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("model=gpt-9", (404, "model_not_found")),
        ("language=xx", (400, "invalid_value")),
        ("language=fr", (400, "invalid_value")),
        ("intent=conversation", (400, "invalid_value")),
        ("protocol=klingon", (400, "invalid_value")),
        ("rate=1", (400, "invalid_value")),
        ("rate=x", (400, "invalid_value")),
        ("session=sess_x", (404, "session_not_found")),
        ("after=-1", (400, "invalid_value")),
        (f"after={'9' * 5_000}", (400, "invalid_value")),
        (f"rate={'9' * 5_000}", (400, "invalid_value")),
    ],
)
def test_an_address_that_makes_no_sense_is_refused_before_the_handshake(fake, query, expected):
    with served(fake) as url:
        assert status(url, f"/v1/realtime?{query}") == expected


def test_places_are_given_back_however_it_ends():
    places = Places(1, "tests")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), places.held():
            with pytest.raises(Refusal, match="all 1 places for tests are taken"):
                places.take()
            raise ZeroDivisionError
    assert places.taken == 0


def test_an_allowance_comes_back_with_time(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    allowance = Allowance(2, 1)
    assert [allowance.spend() for _ in range(3)] == [True, True, False]
    now = 1.5
    assert [allowance.spend() for _ in range(2)] == [True, False]
    now = 100.0
    assert [allowance.spend() for _ in range(3)] == [True, True, False]
