"""Viewers of a live session: all see the same, in the language that they pick."""

import asyncio
import json

import httpx
import pytest

from dragoman.server.limits import Limits
from tests.server.servers import SEGMENT_S, Socket, served, tone
from tests.waiting import eventually

PATH = "/v1/realtime?intent=transcription&rate=16000"
VIEWERS = 200


@pytest.fixture(scope="module")
def url(fake):
    with served(fake) as url:
        yield url


def key(socket: Socket) -> str:
    return socket.created["session"]["viewers"].rpartition("/")[2]


def read(lines) -> tuple[dict[int, dict], str]:
    """The newest caption of each segment, and the last place."""
    captions, place, kind = {}, "0", ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "id":
            place = value
        if name == "event":
            kind = value
        if name == "data" and kind == "caption":
            told = json.loads(value)
            captions[told["segment"]] = told
    return captions, place


def watch(url: str, key: str, query: str = "", **headers: str) -> tuple[dict[int, dict], str]:
    """What came until the session ended."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    with httpx.stream("GET", f"{url}/v1/captions/{key}{query}", headers=told, timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream"), answer.read()
        return read(answer.iter_lines())


def texts(captions: dict[int, dict], code: str) -> list[str]:
    return [told["texts"][code]["committed"] for told in captions.values()]


@pytest.mark.parametrize("when", ["before", "after"])
def test_two_hundred_viewers_see_the_same_in_their_language(url, when):
    segments = 4

    async def follow(client: httpx.AsyncClient, key: str, code: str) -> dict[int, dict]:
        query = f"?language={code}" if code else ""
        async with client.stream("GET", f"{url}/v1/captions/{key}{query}") as answer:
            return read([line async for line in answer.aiter_lines()])[0]

    async def all_of(socket: Socket) -> list[dict[int, dict]]:
        limits = httpx.Limits(max_connections=VIEWERS)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:
            codes = ["es", "en", ""]
            tasks = [
                asyncio.create_task(follow(client, key(socket), codes[at % 3]))
                for at in range(VIEWERS)
            ]
            await asyncio.sleep(2)
            if when == "before":
                await asyncio.to_thread(speak, socket)
            await asyncio.to_thread(socket.socket.close)
            return await asyncio.gather(*tasks)

    def speak(socket: Socket) -> None:
        socket.append(tone(segments * SEGMENT_S))
        for _ in range(segments):
            socket.until("input_audio_buffer.speech_stopped")

    socket = Socket(url, PATH)
    if when == "after":
        speak(socket)
    found = asyncio.run(all_of(socket))
    said = "w0 w1 w2 w3 w4"
    for at, captions in enumerate(found):
        assert list(captions) == list(range(segments))
        languages = [["es"], ["en"], ["es", "en"]][at % 3]
        for code in languages:
            expected = said if code == "es" else said.upper()
            assert texts(captions, code) == [expected] * segments
        assert all(list(told["texts"]) == languages for told in captions.values())


def test_a_viewer_that_comes_back_gets_what_it_missed(url):
    socket = Socket(url, PATH)
    socket.append(tone(2 * SEGMENT_S))
    for _ in range(2):
        socket.until("input_audio_buffer.speech_stopped")
    with httpx.stream("GET", f"{url}/v1/captions/{key(socket)}", timeout=30) as answer:
        lines = []
        for line in answer.iter_lines():
            lines.append(line)
            if line.startswith("id:"):
                break
    captions, place = read(lines)
    assert list(captions) == [0, 1]
    socket.append(tone(SEGMENT_S))
    socket.until("input_audio_buffer.speech_stopped")
    socket.socket.close()
    missed, _ = watch(url, key(socket), Last_Event_ID=place)
    assert list(missed) == [2]


def test_segments_and_times_count_through_all_turns(url):
    socket = Socket(url, PATH)
    for _ in range(2):
        socket.append(tone(SEGMENT_S))
        socket.send("input_audio_buffer.commit")
        socket.until("conversation.item.input_audio_transcription.completed")
    socket.socket.close()
    captions, _ = watch(url, key(socket))
    assert [(told["segment"], told["start"]) for told in captions.values()] == [
        (0, 0.0), (1, SEGMENT_S)
    ]  # fmt: skip


def test_viewers_beyond_the_places_are_refused_and_places_come_back(fake):
    with served(fake, limits=Limits(viewers=1)) as url:
        socket = Socket(url, PATH)
        place = f"{url}/v1/captions/{key(socket)}"
        with httpx.stream("GET", place, timeout=30) as first:
            assert first.status_code == 200
            socket.append(tone(SEGMENT_S))
            lines = first.iter_lines()
            assert next(lines) == "event: caption"
            refused = httpx.get(place)
            assert refused.status_code == 429
            assert refused.json()["error"]["code"] == "server_full"
        assert eventually(lambda: _status(place) == 200)
        socket.socket.close()


def test_of_two_viewers_at_the_last_place_one_is_refused(fake):
    async def both(place: str) -> list[int]:
        async with httpx.AsyncClient(timeout=30) as client:

            async def one() -> int:
                async with client.stream("GET", place) as answer:
                    told.append(answer.status_code)
                    while len(told) < 2:
                        await asyncio.sleep(0.01)
                    return answer.status_code

            told: list[int] = []
            return sorted(await asyncio.gather(one(), one()))

    with served(fake, limits=Limits(viewers=1)) as url, Socket(url, PATH) as socket:
        place = f"{url}/v1/captions/{key(socket)}"
        for _ in range(10):
            assert asyncio.run(both(place)) == [200, 429]
            assert eventually(lambda: _status(place) == 200)


def _status(place: str) -> int:
    with httpx.stream("GET", place, timeout=30) as answer:
        return answer.status_code


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/captions/{key}?language=fr", "language_not_spoken"),
        ("/v1/captions/{key}?language=xx", "invalid_value"),
        ("/v1/captions/nobody", "session_not_found"),
        ("/captions/nobody", "session_not_found"),
        ("/captions/assets/viewers.py", "not_found"),
    ],
)
def test_what_is_not_there_is_explained(url, path, code):
    socket = Socket(url, PATH)
    answer = httpx.get(url + path.format(key=key(socket)))
    assert answer.json()["error"]["code"] == code
    socket.socket.close()


def test_a_link_that_has_ended_tells_a_person_so_in_words(url):
    answer = httpx.get(f"{url}/captions/nobody", headers={"Accept": "text/html,*/*;q=0.8"})
    assert answer.status_code == 404 and answer.headers["content-type"].startswith("text/html")
    assert "ask for a new link" in answer.text and "{" not in answer.text


def test_an_event_of_too_long_a_number_is_refused(url):
    with Socket(url, PATH) as socket:
        link = f"{url}/v1/captions/{key(socket)}"
        answer = httpx.get(link, headers={"Last-Event-ID": "9" * 5_000})
        assert answer.json()["error"]["code"] == "invalid_value"


def test_there_are_connections_for_all_places(fake, monkeypatch):
    monkeypatch.setattr("dragoman.server.serving.CONNECTIONS", 0)
    for viewers, expected in ((1, 503), (2, 200)):
        limits = Limits(sessions=0, files=0, viewers=viewers)
        with served(fake, limits=limits) as address:
            assert httpx.get(f"{address}/health").status_code == expected


def test_a_viewers_key_is_no_name_to_speak_by(url):
    from websockets.exceptions import InvalidStatus

    socket = Socket(url, PATH)
    with pytest.raises(InvalidStatus, match="404"):
        Socket(url, f"{PATH}&session={key(socket)}")
    socket.socket.close()


def test_the_page_has_its_parts(url):
    socket = Socket(url, PATH)
    page = httpx.get(f"{url}/captions/{key(socket)}").text
    assert "data:image/svg+xml" in page and "{qr}" not in page
    for name in ("viewer.js", "viewer.css"):
        assert f"assets/{name}" in page
        assert httpx.get(f"{url}/captions/assets/{name}").status_code == 200
    socket.socket.close()
