"""Live sessions over web sockets: OpenAI's own client, OpenAI's types, and vLLM's messages."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai.types.realtime import realtime_translation_server_event
from pydantic import TypeAdapter
from websockets.exceptions import InvalidStatus

from dragoman.pipeline.media import read_audio
from dragoman.server.feed import Feed
from tests.pipeline.fake_stages import CHUNKS_A_SEGMENT
from tests.server.servers import SEGMENT_S, Socket, client, pieces, served, text, tone

TALK = Path(__file__).resolve().parents[2] / "samples" / "talk.wav"
SECONDS = 9


@pytest.fixture(scope="module")
def talk() -> np.ndarray:
    """The first sentences of the sample, with silence behind, at 16 kHz."""
    samples = np.concatenate(list(read_audio(TALK)))[: SECONDS * 16_000]
    return np.concatenate([samples, np.zeros(16_000, np.float32)])


@pytest.fixture(scope="module")
def expected(real, talk) -> list:
    """What the Python API makes of it."""
    return [c for c in real.caption(talk, pace="fast") if c.kind == "final" and c.transcript.whole]


@pytest.fixture(scope="module")
def url(real):
    with served(real) as url:
        yield url


@pytest.fixture(scope="module")
def fake_url(fake):
    with served(fake) as url:
        yield url


def pcm(samples: np.ndarray, rate_hz: int) -> bytes:
    """16-bit samples of sound at 16 kHz, at another rate."""
    count = len(samples) * rate_hz // 16_000
    at = np.arange(count) * 16_000 / rate_hz
    return (np.interp(at, np.arange(len(samples)), samples) * 32_767).astype("<i2").tobytes()


def spoken_to(url: str) -> Any:
    """OpenAI's client; what it receives is one of many types."""
    return client(url).realtime.connect(extra_query={"intent": "transcription"})


def joined(captions, which: str) -> str:
    return " ".join(filter(None, (getattr(caption, which).whole for caption in captions)))


def test_openais_client_hears_turns_by_voice(url, talk, expected):
    items: dict[str, str] = {}
    completed, kinds = [], []
    with spoken_to(url) as connection:
        assert connection.recv().type == "session.created"
        sound = {
            "format": {"type": "audio/pcm", "rate": 24_000},
            "transcription": {"model": "nano", "language": "es"},
            "turn_detection": {"type": "server_vad", "silence_duration_ms": 560},
        }
        connection.session.update(session={"type": "transcription", "audio": {"input": sound}})
        updated = connection.recv()
        assert updated.type == "session.updated"
        assert updated.session.audio.input.turn_detection.silence_duration_ms == 560
        for piece in pieces(pcm(talk, 24_000)):
            connection.input_audio_buffer.append(audio=piece)
        for event in connection:
            kinds.append(event.type)
            if event.type.endswith("transcription.delta"):
                items[event.item_id] = items.get(event.item_id, "") + event.delta
            if event.type.endswith("transcription.completed"):
                completed.append((event.item_id, event.transcript))
            if len(completed) == len(expected):
                break
    # At another rate it hears other samples, so now and then another letter.
    assert len(completed) == len(expected) and completed[0][1] == expected[0].transcript.whole
    assert [(item, items[item]) for item, _ in completed] == completed
    starts = [kind for kind in kinds if "delta" not in kind][:4]
    assert starts == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.input_audio_transcription.completed",
    ]


def test_openais_client_ends_turns_itself(fake_url):
    with spoken_to(fake_url) as connection:
        connection.recv()
        sound = {"format": {"type": "audio/pcm", "rate": 16_000}, "turn_detection": None}
        connection.session.update(session={"type": "transcription", "audio": {"input": sound}})
        assert connection.recv().session.audio.input.turn_detection is None
        previous = None
        for _ in range(2):
            for piece in pieces(tone(2 * SEGMENT_S)):
                connection.input_audio_buffer.append(audio=piece)
            connection.input_audio_buffer.commit()
            events = []
            while not events or not events[-1].type.endswith("completed"):
                events.append(connection.recv())
            (committed,) = [e for e in events if e.type == "input_audio_buffer.committed"]
            assert committed.previous_item_id == previous
            previous = committed.item_id
            said = "".join(e.delta for e in events if e.type.endswith(".delta"))
            assert events[-1].transcript == said == "w0 w1 w2 w3 w4 w0 w1 w2 w3 w4"
            assert {e.item_id for e in events} == {previous}
            assert events[-1].usage.seconds == pytest.approx(2 * SEGMENT_S)


def test_translations_have_openais_shapes_and_the_text(url, talk, expected):
    with Socket(url, "/v1/realtime/translations?model=nano&language=es") as socket:
        audio = {"input": {"transcription": {"model": "nano"}}, "output": {"language": "en"}}
        socket.send("session.update", session={"audio": audio})
        updated = socket.receive()
        assert updated["session"]["audio"]["output"] == {"language": "en"}
        socket.append(pcm(talk, 24_000), "session.")
        socket.send("session.close")
        messages = [socket.created, updated, *socket.until("session.closed")]
    known = TypeAdapter(realtime_translation_server_event.RealtimeTranslationServerEvent)
    for message in messages:
        event = known.validate_python(message)
        assert event.type == message["type"] and not isinstance(event, dict)
    said = text(messages, "session.input_transcript.delta")
    written = text(messages, "session.output_transcript.delta")
    first = expected[0]
    assert said.startswith(first.transcript.whole) and written.startswith(first.translation.whole)
    assert len(said.split()) == len(joined(expected, "transcript").split())
    times = [message["elapsed_ms"] for message in messages if "elapsed_ms" in message]
    assert times == sorted(times) and all(time % 200 == 0 for time in times)


@pytest.mark.parametrize("path", ["/v1/realtime?protocol=vllm", "/v1/realtime?model=nano"])
def test_vllms_messages_by_query_or_by_the_first_message(fake_url, path):
    with Socket(fake_url, path) as socket:
        assert socket.created["id"].startswith("sess_") and socket.created["created"]
        socket.send("session.update", model="nano")
        socket.send("input_audio_buffer.commit")
        for _ in range(2):
            socket.append(tone(1.6 * SEGMENT_S))
            socket.send("input_audio_buffer.commit", final=True)
            *deltas, done = socket.until("transcription.done")
            assert {message["type"] for message in deltas} == {"transcription.delta"}
            assert done["text"] == text(deltas, "transcription.delta")
            assert done["text"].startswith("w0 w1 w2 w3 w4 w0 w1 w2")


def test_a_turn_without_words_is_completed_as_well(url):
    with Socket(url, "/v1/realtime?intent=transcription") as socket:
        socket.append(bytes(48_000))
        socket.send("input_audio_buffer.commit")
        committed, completed = socket.until("conversation.item.input_audio_transcription.completed")
        assert committed["type"] == "input_audio_buffer.committed"
        assert (completed["transcript"], completed["item_id"]) == ("", committed["item_id"])


def test_a_turn_that_was_cleared_is_not_in_the_next_one(fake_url):
    manual = {"audio": {"input": {"turn_detection": None}}}
    with Socket(fake_url, "/v1/realtime?intent=transcription&rate=16000") as socket:
        socket.send("session.update", session=manual)
        socket.append(tone(1.5 * SEGMENT_S))
        socket.until("conversation.item.input_audio_transcription.delta")
        socket.send("input_audio_buffer.clear")
        socket.send("input_audio_buffer.commit")
        while (told := socket.receive())["type"] != "error":
            assert told["type"] != "input_audio_buffer.committed"
        assert told["error"]["code"] == "input_audio_buffer_commit_empty"
        socket.append(tone(SEGMENT_S))
        socket.send("input_audio_buffer.commit")
        completed = socket.until("conversation.item.input_audio_transcription.completed")[-1]
        assert completed["transcript"] == "w0 w1 w2 w3 w4"


def test_cleared_sound_is_not_heard():
    feed = Feed(16_000)
    feed.push(np.ones(16_000, np.float32))
    feed.close()
    assert list(feed) == [] and feed.behind_s == 0


def test_a_client_that_goes_without_reading_leaves_no_trace_in_the_log(fake_url, caplog):
    for _ in range(5):
        socket = Socket(fake_url, "/v1/realtime?intent=transcription&rate=16000")
        for _ in range(10):
            socket.send("session.update", session={})
        socket.cut()
    Socket(fake_url, "/v1/realtime").socket.close()
    time.sleep(0.3)  # for what would be logged
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_failure_that_nobody_foresaw_is_in_the_log_alone(fake, fake_url, caplog, monkeypatch):
    def fail(*_):
        raise ValueError("/secret/path")

    monkeypatch.setattr("dragoman.server.realtime.check", fail)
    with pytest.raises(InvalidStatus) as refused:
        Socket(fake_url, "/v1/realtime")
    answer = refused.value.response
    assert answer.status_code == 500 and b"secret" not in answer.body
    assert "/secret/path" in caplog.text


def test_another_language_or_rate_counts_from_then_on(fake_url):
    with Socket(fake_url, "/v1/realtime/translations?rate=16000") as socket:
        socket.append(tone(SEGMENT_S), "session.")
        first = socket.until("session.output_transcript.delta")
        socket.send("session.update", session={"audio": {"output": {"language": "fr"}}})
        while (refused := socket.receive())["type"] != "error":
            first.append(refused)
        assert "nano" in refused["error"]["message"]
        socket.append(tone(SEGMENT_S), "session.")
        socket.send("session.close")
        rest = socket.until("session.closed")
        whole = text(first + rest, "session.output_transcript.delta")
        assert whole == "W0 W1 W2 W3 W4 W0 W1 W2 W3 W4"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("no json", "invalid_json"),
        ("[1]", "invalid_json"),
        ("[" * 100_000, "invalid_json"),
        (b"bytes", "invalid_json"),
        ('{"type": "response.create", "event_id": "x"}', "invalid_value"),
        ('{"type": "input_audio_buffer.append", "audio": "?"}', "invalid_audio"),
        ('{"type": "input_audio_buffer.append", "audio": 3}', "invalid_audio"),
        ('{"type": "input_audio_buffer.append", "audio": "AAAA"}', "invalid_audio"),
        ('{"type": "input_audio_buffer.commit"}', "input_audio_buffer_commit_empty"),
        ('{"type": "session.update", "session": 1}', "invalid_value"),
        ('{"type": "session.update", "session": {"type": "realtime"}}', "invalid_value"),
        (
            '{"type": "session.update", "session": {"audio": {"input": {"transcription": '
            '{"language": "xx"}}}}}',
            "invalid_value",
        ),
        (
            '{"type": "session.update", "session": {"audio": {"input": {"transcription": '
            '{"model": "gpt-9"}}}}}',
            "model_not_found",
        ),
        (
            '{"type": "session.update", "session": {"audio": {"input": {"format": '
            '{"type": "audio/pcmu"}}}}}',
            "invalid_value",
        ),
    ],
)
def test_a_message_that_makes_no_sense_is_explained_and_the_session_goes_on(
    fake_url, message, code
):
    with Socket(fake_url, "/v1/realtime?intent=transcription") as socket:
        socket.socket.send(message)
        error = socket.receive()
        assert (error["type"], error["error"]["code"]) == ("error", code)
        assert error["error"]["message"] and "/tmp" not in error["error"]["message"]
        if "event_id" in str(message):
            assert error["error"]["event_id"] == "x"
        socket.append(tone(1.5 * SEGMENT_S, 24_000))
        assert socket.until("input_audio_buffer.speech_stopped")


def test_sessions_at_the_same_time_do_not_mix(fake_url):
    """One says more than the others."""
    found = {}

    def speak(segments: int) -> None:
        with Socket(fake_url, "/v1/realtime/translations?rate=16000") as socket:
            socket.append(tone(segments * SEGMENT_S), "session.")
            socket.send("session.close")
            written = text(socket.until("session.closed"), "session.output_transcript.delta")
            found[segments] = len(written.split())

    threads = [threading.Thread(target=speak, args=(count,)) for count in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {count: count * CHUNKS_A_SEGMENT for count in range(1, 9)}
