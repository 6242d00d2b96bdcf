"""Two servers on one folder: a session is at one of them, and anybody may ask either."""

import json
import random
import threading
from contextlib import suppress

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from dragoman.server import speakers
from dragoman.server.journal import Journal
from dragoman.server.limits import Limits
from tests.server.servers import SEGMENT_S, Socket, served, text, tone
from tests.server.test_viewers import key, read, texts
from tests.waiting import eventually

DELTA = "session.output_transcript.delta"
PATH = "/v1/realtime/translations?rate=16000"
TURNS = "/v1/realtime?intent=transcription&rate=16000"
DONE = "conversation.item.input_audio_transcription.completed"
SEGMENTS = 12


@pytest.fixture
def two(fake, tmp_path):
    """The addresses of two servers that share their sessions."""
    with served(fake, state=tmp_path) as first, served(fake, state=tmp_path) as second:
        yield first, second


@pytest.mark.parametrize("seed", range(3))
def test_a_client_goes_from_one_to_the_other_and_back(two, seed):
    draw, sound = random.Random(seed), tone(SEGMENTS * SEGMENT_S)
    socket, messages, sent, at = Socket(two[0], PATH), [], 0, 0
    id = socket.created["session"]["id"]
    while sent < len(sound):
        size = 2 * draw.randrange(4_000, 40_000)
        socket.append(sound[sent : sent + size], "session.")
        for _ in range(draw.randrange(3)):
            with suppress(TimeoutError):
                messages.append(socket.receive(0.3))
        before, at, cut = socket, 1 - at, draw.random() < 0.5
        if cut:
            before.cut()
        number = messages[-1]["seq"] if messages else 0
        socket = Socket(two[at], f"{PATH}&session={id}&after={number}")
        assert socket.created["type"] == "session.resumed"
        sent = socket.created["received_bytes"]
        if not cut:  # it hears that it is over there
            with pytest.raises(ConnectionClosed, match="1008"):
                while True:
                    before.receive()
    socket.send("session.close")
    messages += socket.until("session.closed")
    assert text(messages, DELTA).split() == [f"W{n}" for n in range(5)] * SEGMENTS
    assert [message["seq"] for message in messages] == list(range(1, len(messages) + 1))


def test_a_session_that_is_not_let_go_of_is_refused(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(speakers, "TAKE_S", 0.3)
    with served(fake, state=tmp_path) as url:
        held = Journal.begin(tmp_path / ("sess_" + "a" * 24))
        with pytest.raises(InvalidStatus, match="503"):
            Socket(url, f"{PATH}&session=sess_{'a' * 24}")
        held.release()


def test_what_another_server_has_is_not_removed(fake, tmp_path):
    held = Journal.begin(tmp_path / "sess_held")
    with served(fake, state=tmp_path, limits=Limits(resume_s=0.1)) as url:
        (tmp_path / "sess_left").mkdir()
        eventually(lambda: not (tmp_path / "sess_left").exists())
        assert (tmp_path / "sess_held").exists()
        held.release()
        eventually(lambda: not (tmp_path / "sess_held").exists())
        assert httpx.get(f"{url}/health").status_code == 200


def test_viewers_see_it_at_either_and_while_it_moves(two):
    socket = Socket(two[0], PATH)
    link = f"/v1/captions/{key(socket)}?language=en"
    found: dict[int, dict[int, dict]] = {}

    def watch(at: int) -> None:
        """As a browser does: again from its place where the stream breaks off."""
        captions, place, lines = {}, "0", []
        while "event: end" not in lines:
            told = {"Last-Event-ID": place}
            with httpx.stream("GET", two[at] + link, headers=told, timeout=60) as answer:
                assert answer.status_code == 200
                lines = list(answer.iter_lines())
            more, place = read(lines)
            captions |= more
        found[at] = captions

    threads = [threading.Thread(target=watch, args=(at,)) for at in (0, 1)]
    for thread in threads:
        thread.start()
    socket.append(tone(2 * SEGMENT_S), "session.")
    messages = [socket.receive()]
    while len(text(messages, DELTA).split()) < 2 * 5:
        messages.append(socket.receive())
    id, number = socket.created["session"]["id"], messages[-1]["seq"]
    socket = Socket(two[1], f"{PATH}&session={id}&after={number}")
    socket.append(tone(2 * SEGMENT_S), "session.")
    socket.send("session.close")
    socket.until("session.closed")
    for thread in threads:
        thread.join(60)
    said = " ".join(f"W{n}" for n in range(5))
    for at in (0, 1):
        assert texts(found[at], "en") == [said] * 4, at
    assert httpx.get(f"{two[0]}/v1/captions/{key(socket)[::-1]}").status_code == 404


@pytest.mark.parametrize("moment", ["before", "after"])
def test_sound_that_was_cleared_stays_away_at_the_next_server(fake, two, tmp_path, moment):
    socket = Socket(two[0], TURNS)
    audio = {"input": {"turn_detection": None}}
    socket.send("session.update", session={"type": "transcription", "audio": audio})
    assert socket.receive()["type"] == "session.updated"
    socket.append(tone(2 * SEGMENT_S))
    socket.send("input_audio_buffer.clear")
    messages = socket.until("input_audio_buffer.cleared")
    lines = tmp_path / socket.created["id"] / "journal.jsonl"
    eventually(lambda: '"cleared"' in lines.read_text())
    if moment == "before":  # the server was killed before it came to it
        whole = [json.loads(line) for line in lines.read_text().splitlines()]
        kept = [record for record in whole if record["do"] not in ("cleared", "captioned")]
        socket.cut()
        lines.write_text("".join(json.dumps(record) + "\n" for record in kept))
    seen = max((message.get("seq", 0) for message in messages), default=0)
    number = 0 if moment == "before" else seen
    again = Socket(two[1], f"{TURNS}&session={socket.created['id']}&after={number}")
    again.append(tone(SEGMENT_S))
    again.send("input_audio_buffer.commit")
    completed = again.until(DONE)[-1]
    assert completed["transcript"] == " ".join(f"w{n}" for n in range(5))


def test_half_a_line_is_skipped_by_the_next_server_and_the_one_after(fake, tmp_path):
    state, messages = tmp_path / "state", []
    with served(fake, state=state) as url:
        socket = Socket(url, PATH)
        id = socket.created["session"]["id"]
        socket.append(tone(SEGMENT_S), "session.")
        while len(text(messages, DELTA).split()) < 5:
            messages.append(socket.receive())
        socket.cut()
    for _ in range(2):  # each is killed while it writes
        with (state / id / "journal.jsonl").open("ab") as file:
            file.write('{"do": "captioned", "caption": {"text": "\u00e9'.encode()[:-1])
        with sorted((state / id).glob("*.pcm"))[-1].open("ab") as file:
            file.write(b"\0")
        with served(fake, state=state) as url:
            socket = Socket(url, f"{PATH}&session={id}&after={messages[-1]['seq']}")
            assert socket.created["received_bytes"] % 2 == 0
            socket.append(tone(SEGMENT_S), "session.")
            wanted = len(text(messages, DELTA).split()) + 5
            while len(text(messages, DELTA).split()) < wanted:
                messages.append(socket.receive())
            socket.cut()
    assert text(messages, DELTA).split() == [f"W{n}" for n in range(5)] * 3
    assert [message["seq"] for message in messages] == list(range(1, len(messages) + 1))


def test_a_session_that_has_ended_ends_at_the_other_too(two):
    socket = Socket(two[0], PATH)
    socket.append(tone(SEGMENT_S), "session.")
    socket.send("session.close")
    messages = socket.until("session.closed")
    id = socket.created["session"]["id"]
    again = Socket(two[1], f"{PATH}&session={id}&after=0")
    assert again.until("session.closed") == messages
