"""A server's process is replaced while somebody speaks: the text goes on as if nothing was.

What a killed process leaves is what is on its disk at that moment: so most tests take a copy of
that folder, and begin a server on it. One kills the command itself.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from dragoman.captioner import Captioner
from dragoman.pipeline.media import read_audio
from dragoman.pipeline.recipes import Recipe
from dragoman.server.journal import FILE_S, FILES, Journal
from dragoman.server.limits import Limits
from dragoman.stages.messages import Text
from tests.pipeline.chains import in_process
from tests.pipeline.fake_stages import CountingCaptions, Making, fakes
from tests.server.servers import SEGMENT_S, Socket, served, text, tone
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
DELTA = "session.output_transcript.delta"
PATH = "/v1/realtime/translations?rate=16000"
SEGMENTS = 6


def drained(socket: Socket, messages: list[dict], within_s: float) -> None:
    """Takes what comes in that time."""
    end = time.monotonic() + within_s
    with suppress(TimeoutError, ConnectionClosed):
        while (left := end - time.monotonic()) > 0:
            messages.append(socket.receive(left))


@pytest.mark.parametrize("seed", range(6))
def test_a_server_on_what_another_left_goes_on(fake, tmp_path, seed):
    draw = random.Random(seed)
    sound, messages = tone(SEGMENTS * SEGMENT_S), []
    kill_at = draw.randrange(len(sound) // 4, len(sound)) // 2 * 2
    with served(fake, state=tmp_path / "first") as url:
        socket = Socket(url, PATH)
        id = socket.created["session"]["id"]
        socket.append(sound[:kill_at], "session.")
        drained(socket, messages, draw.choice([0.0, 0.1, 0.5]))
        shutil.copytree(tmp_path / "first", tmp_path / "second")
        socket.cut()
    number = messages[-1]["seq"] if messages else 0
    with served(fake, state=tmp_path / "second") as url:
        again = Socket(url, f"{PATH}&session={id}&after={number}")
        assert again.created["type"] == "session.resumed"
        again.append(sound[again.created["received_bytes"] :], "session.")
        again.send("session.close")
        messages += again.until("session.closed")
    assert text(messages, DELTA).split() == [f"W{n}" for n in range(5)] * SEGMENTS
    assert [message["seq"] for message in messages] == list(range(1, len(messages) + 1))


class Otherwise(CountingCaptions):
    """Hears longer words."""

    def step(self, item, state):
        made, state = super().step(item, state)
        return [
            replace(
                caption,
                transcript=longer(caption.transcript),
                translation=longer(caption.translation),
            )
            for caption in made
        ], state


def longer(text: Text) -> Text:
    return Text(text.committed.replace("W", "other"), text.tail.replace("W", "other"))


class OtherCaptioner(Captioner):
    def __enter__(self) -> Captioner:
        first, second, _ = fakes()
        self._chain = in_process((first, second, Recipe("translate", Making(Otherwise()))))
        return self


def test_what_was_committed_stays_where_other_words_are_heard_now(fake, tmp_path):
    with served(fake, state=tmp_path / "first") as url:
        socket = Socket(url, PATH)
        messages: list[dict] = []
        for _ in range(SEGMENTS):  # until a segment is open that has words
            socket.append(tone(0.16 * 4), "session.")
            drained(socket, messages, 0.3)
            if len(text(messages, DELTA).split()) % 5:
                break
        shutil.copytree(tmp_path / "first", tmp_path / "second")
        socket.cut()
    told = text(messages, DELTA)
    open_words = told.split()[len(told.split()) // 5 * 5 :]
    assert open_words
    id, number = socket.created["session"]["id"], messages[-1]["seq"]
    with OtherCaptioner() as other, served(other, state=tmp_path / "second") as url:
        again = Socket(url, f"{PATH}&session={id}&after={number}")
        again.append(tone(0.16 * 6), "session.")
        again.send("session.close")
        rest = again.until("session.closed")
    whole = (told + text(rest, DELTA)).split()
    settled = len(told.split()) - len(open_words)
    now = [f"other{n}" for n in range(5)]
    assert whole[settled : settled + 5] == [*open_words, *now[len(open_words) :]]
    assert whole[settled + 5 :][:5] == now


@pytest.mark.parametrize(
    ("path", "done"),
    [
        ("/v1/realtime?protocol=vllm", "transcription.done"),
        (
            "/v1/realtime?intent=transcription&rate=16000",
            "conversation.item.input_audio_transcription.completed",
        ),
    ],
)
def test_a_turn_that_was_committed_is_completed_by_the_next_server(fake, tmp_path, path, done):
    with served(fake, state=tmp_path / "first") as url:
        socket = Socket(url, path)
        if "intent" in path:
            audio = {"input": {"turn_detection": None}}
            socket.send("session.update", session={"type": "transcription", "audio": audio})
            assert socket.receive()["type"] == "session.updated"
        id = socket.created["id"]
        socket.append(tone(2 * SEGMENT_S))
        socket.send("input_audio_buffer.commit", final=True)
        messages = socket.until(done)
        socket.append(tone(SEGMENT_S))
        socket.send("input_audio_buffer.commit", final=True)
        wanted = socket.until(done)
        shutil.copytree(tmp_path / "first", tmp_path / "second")
        lines = (tmp_path / "second" / id / "journal.jsonl").read_text().splitlines(keepends=True)
        at = max(at for at, line in enumerate(lines) if '"turned"' in line)
        cut = "".join([*lines[:at], '{"do": "tur'])  # it was just being written
        (tmp_path / "second" / id / "journal.jsonl").write_text(cut)
        socket.cut()
    with served(fake, state=tmp_path / "second") as url:
        again = Socket(url, f"{path}&session={id}&after={messages[-1]['seq']}")
        found = again.until(done)
        again.socket.close()
    bare = [
        {k: v for k, v in m.items() if k not in ("seq", "event_id")}
        for m in (wanted[-1], found[-1])
    ]
    assert bare[0] == bare[1]


def test_what_nobody_comes_back_to_goes_from_the_disk(fake, tmp_path):
    (tmp_path / "sess_of_a_process_before").mkdir()
    with served(fake, state=tmp_path, limits=Limits(resume_s=0.3)) as url:
        eventually(lambda: not list(tmp_path.iterdir()))
        socket = Socket(url, PATH)
        socket.append(tone(SEGMENT_S), "session.")
        socket.until(DELTA)
        (folder,) = tmp_path.iterdir()
        assert folder.stat().st_mode & 0o077 == 0
        socket.cut()
        eventually(lambda: not list(tmp_path.iterdir()))
        with pytest.raises(InvalidStatus, match="404"):
            Socket(url, f"{PATH}&session={folder.name}")


def test_a_name_that_is_a_path_finds_nothing(fake, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "journal.jsonl").write_text("{}\n")
    with served(fake, state=tmp_path / "state") as url:
        for id in ("../other", "..%2Fother", "sess_" + "/" * 24, "."):
            with pytest.raises(InvalidStatus, match="404"):
                Socket(url, f"{PATH}&session={id}")


def test_the_disk_of_a_session_is_bounded(tmp_path):
    journal, second = Journal.begin(tmp_path / "session"), tone(1)
    for at in range(400):
        journal.hear(bytes([at % 256, 0]) + second[2:], 16_000)
        size = sum(path.stat().st_size for path in (tmp_path / "session").glob("*.pcm"))
        assert size <= 2 * 16_000 * FILE_S * FILES
    journal.release()
    again = Journal(tmp_path / "session")
    assert journal.received_bytes == again.received_bytes == 400 * 32_000
    kept = b"".join(sound.data for sound in again.sound(0, again.end))
    assert len(kept) >= 2 * 16_000 * FILE_S * (FILES - 1)
    (last,) = again.sound(399 * 16_000, again.end)
    assert (last.index, len(last.data), last.data[0]) == (399 * 16_000, 32_000, 399 % 256)


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_the_command_is_killed_and_another_goes_on(tmp_path):
    talk = np.concatenate(list(read_audio(ROOT / "samples" / "talk.wav")))[: 14 * 16_000]
    sound = (talk * 32_767).astype("<i2").tobytes()
    whole: list[list[dict]] = []
    for kill in (False, True):
        state, messages = tmp_path / f"{kill}", []
        server, url = command(state)
        socket = Socket(url, PATH)
        half = len(sound) // 4 * 2 if kill else len(sound)
        socket.append(sound[:half], "session.")
        if kill:
            messages += socket.until(DELTA)
            server.kill()
            server.wait()
            drained(socket, messages, 1.0)
            server, url = command(state)
            id = socket.created["session"]["id"]
            socket = Socket(url, f"{PATH}&session={id}&after={messages[-1]['seq']}")
            socket.append(sound[socket.created["received_bytes"] :], "session.")
        socket.send("session.close")
        messages += socket.until("session.closed")
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
        whole.append(messages)
    quiet, killed = whole
    assert text(killed, DELTA) == text(quiet, DELTA) != ""
    assert [message["seq"] for message in killed] == list(range(1, len(killed) + 1))


def command(state: Path) -> tuple[subprocess.Popen[str], str]:
    """`dragoman serve` on the bundled model, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dragoman.demos.cli", "serve", "--no-ray", "--port", "0"]
        + ["--state-dir", str(state)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    url = re.search(r"http://[^/\s]+", process.stdout.readline())
    assert url is not None
    return process, url[0]
