"""Two replicas on Ray Serve: the command itself, one of its processes killed, and its limits."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from dragoman import errors
from dragoman.demos import cli
from dragoman.pipeline.media import read_audio
from dragoman.server.serving import KEY
from tests.server.servers import Socket, client, text
from tests.server.test_viewers import key, read, texts
from tests.waiting import PATIENCE_S, eventually

ROOT = Path(__file__).resolve().parents[2]
DELTA = "session.output_transcript.delta"
PATH = "/v1/realtime/translations?rate=16000"
SESSIONS = 3  # of each replica


@pytest.fixture(scope="module")
def state(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def url(state):
    """The address of the command, with two replicas."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dragoman.demos.cli", "serve", "--replicas", "2", "--port", "0"]
        + ["--state-dir", str(state), "--max-sessions", str(SESSIONS), "--max-viewers", "2"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", KEY: ""},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://[^/\s]+", process.stdout.readline())
        assert found is not None
        yield found[0]
        os.killpg(process.pid, signal.SIGHUP)  # as of a terminal that is closed
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()


@pytest.fixture(scope="module")
def sound() -> bytes:
    talk = np.concatenate(list(read_audio(ROOT / "samples" / "talk.wav")))[: 14 * 16_000]
    return (talk * 32_767).astype("<i2").tobytes()


def holder(state: Path, socket: Socket) -> int:
    """The process that has the session."""
    return int((state / socket.created["session"]["id"] / "held").read_text().split()[0])


def again(url: str, id: str, seq: int) -> Socket:
    """Comes back, as a client does that was cut off: until it is taken."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with suppress(InvalidStatus, ConnectionClosed, OSError, EOFError):
            return Socket(url, f"{PATH}&session={id}&after={seq}")
        time.sleep(0.2)
    raise AssertionError("nobody took the session")


def spoken(url: str, sound: bytes) -> list[dict]:
    with Socket(url, PATH) as socket:
        socket.append(sound, "session.")
        socket.send("session.close")
        return socket.until("session.closed")


def watched(url: str, link: str) -> dict[int, dict]:
    """What a viewer saw until the session ended, coming back as a browser does."""
    captions: dict[int, dict] = {}
    place, lines, end = "0", [], time.monotonic() + PATIENCE_S
    while "event: end" not in lines and time.monotonic() < end:
        lines = []
        with (
            suppress(httpx.HTTPError),
            httpx.stream("GET", url + link, headers={"Last-Event-ID": place}, timeout=60) as told,
        ):
            for line in told.iter_lines():
                lines.append(line)
        more, now = read(lines)
        captions |= more
        place = now if now != "0" else place
        time.sleep(0.1)
    return captions


def test_one_that_is_killed_loses_nobody_a_word(url, state, sound):
    quiet = spoken(url, sound)
    socket = Socket(url, PATH)
    id, seen = socket.created["session"]["id"], {}
    link = f"/v1/captions/{key(socket)}?language=en"
    viewer = threading.Thread(target=lambda: seen.update(watched(url, link)))
    viewer.start()
    socket.append(sound[: len(sound) // 4 * 2], "session.")
    messages = socket.until(DELTA)
    killed = holder(state, socket)
    os.kill(killed, signal.SIGKILL)
    with suppress(ConnectionClosed, OSError):
        while True:
            messages.append(socket.receive())
    socket = again(url, id, messages[-1]["seq"])
    assert holder(state, socket) != killed
    socket.append(sound[socket.created["received_bytes"] :], "session.")
    socket.send("session.close")
    messages += socket.until("session.closed")
    viewer.join(PATIENCE_S)
    assert text(messages, DELTA) == text(quiet, DELTA) != ""
    assert [message["seq"] for message in messages] == list(range(1, len(messages) + 1))
    assert " ".join(texts(seen, "en")) == text(quiet, DELTA).strip()
    eventually(lambda: len(holders(url, state)) == 2)  # Serve has started another


def holders(url: str, state: Path) -> set[int]:
    """The processes that some new sessions are at."""
    sockets: list[Socket] = []
    with suppress(InvalidStatus):
        while len(sockets) < 4:
            sockets.append(Socket(url, PATH))
    found = {holder(state, socket) for socket in sockets}
    for socket in sockets:
        socket.socket.close()
    return found


def test_a_connection_stays_where_it_is_and_comes_back_anywhere(url, state, sound):
    quiet, step = spoken(url, sound), len(sound) // 8 * 2
    socket, messages, at = Socket(url, PATH), [], set()
    id, sent = socket.created["session"]["id"], 0
    while sent < len(sound):
        at.add(holder(state, socket))
        socket.append(sound[sent : sent + step], "session.")
        with suppress(TimeoutError):
            messages.append(socket.receive(0.5))
        socket.cut()
        socket = again(url, id, messages[-1]["seq"] if messages else 0)
        sent = socket.created["received_bytes"]
    socket.send("session.close")
    messages += socket.until("session.closed")
    assert text(messages, DELTA) == text(quiet, DELTA)
    assert [message["seq"] for message in messages] == list(range(1, len(messages) + 1))


def test_what_there_is_no_room_for_is_refused_at_once(url):
    sockets: list[Socket] = []
    began = time.monotonic()
    with pytest.raises(InvalidStatus) as refused:
        for _ in range(2 * SESSIONS + 1):
            sockets.append(Socket(url, PATH))
    assert time.monotonic() - began < PATIENCE_S / 3
    assert len(sockets) >= SESSIONS
    answer = refused.value.response
    assert answer.status_code == 429 and b"server_full" in (answer.body or b"")
    assert answer.headers["Retry-After"]
    for socket in sockets:
        socket.socket.close()
    eventually(lambda: len(spoken(url, bytes(32_000))))  # there is room again


def test_viewers_have_places_and_give_them_back(url):
    async def statuses(link: str, count: int) -> list[int]:
        """Of so many viewers at the same time."""
        async with httpx.AsyncClient(timeout=60) as http:

            async def one() -> int:
                async with http.stream("GET", url + link) as answer:
                    told.append(answer.status_code)
                    while len(told) < count:
                        await asyncio.sleep(0.01)
                    return answer.status_code

            told: list[int] = []
            return await asyncio.gather(*(one() for _ in range(count)))

    with Socket(url, PATH) as socket:
        link = f"/v1/captions/{key(socket)}"
        for _ in range(2):
            found = asyncio.run(statuses(link, 6))
            assert 2 <= found.count(200) <= 4 and set(found) == {200, 429}
            eventually(lambda: asyncio.run(statuses(link, 1)) == [200])


def test_a_message_that_is_too_long_ends_the_connection(url):
    with Socket(url, PATH) as socket:
        socket.socket.send("x" * (2**20 + 1))
        assert socket.receive()["error"]["code"] == "too_large"
        with pytest.raises(ConnectionClosed, match="1009"):
            socket.receive()


def test_files_are_answered_as_by_a_server_alone(url):
    with (ROOT / "samples" / "talk.wav").open("rb") as file:
        said = client(url).audio.transcriptions.create(file=file, model="nano")
    assert len(said.text.split()) > 5
    answer = httpx.post(f"{url}/v1/audio/transcriptions", content=bytes(9))
    assert answer.status_code == 400 and answer.json()["error"]["code"]
    evil = {"Origin": "https://evil.example"}
    assert httpx.get(f"{url}/v1/models", headers=evil).status_code == 403


def test_a_flood_ends_and_leaves_no_memory_behind(url, state):
    """The session ends at the first of its limits."""

    before = proxies_bytes()
    for _ in range(3):
        with suppress(ConnectionClosed, OSError), Socket(url, PATH) as socket:
            end = time.monotonic() + 30
            while time.monotonic() < end:
                socket.append(bytes(320_000), "session.")
            raise AssertionError("a flood is not refused")
    assert before > 0 and proxies_bytes() - before < 200 * 2**20


def test_a_flood_is_held_back_while_its_replica_does_nothing(url, state):
    with Socket(url, PATH, compression=None) as socket:
        with stopped([holder(state, socket)]):
            flood = Flood(socket.socket.send, "x" * 2**17, 2**26)
            assert 0 < eventually(flood.held) < 2**25
        with pytest.raises(ConnectionClosed, match="1008"):  # as such messages make no sense
            while True:
                socket.receive()


def test_a_file_is_held_back_while_the_replicas_do_nothing(url, state):
    """And taken as soon as they go on."""
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    end, size = b"\r\n--x--\r\n", 2**26
    connection = HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_S)
    with stopped(holders(url, state)):
        connection.putrequest("POST", "/v1/audio/transcriptions")
        connection.putheader("Content-Type", "multipart/form-data; boundary=x")
        connection.putheader("Content-Length", str(len(head) + size + len(end)))
        connection.endheaders(head)
        flood = Flood(connection.send, bytes(2**20), size)
        assert 0 < eventually(flood.held) < 2**25
    flood.join(PATIENCE_S)
    assert flood.sent == size
    connection.send(end)
    answer = connection.getresponse()
    assert answer.status == 400 and b"invalid_file" in answer.read()


class Flood(threading.Thread):
    """Sends ``piece`` by ``send`` until it fails, or ``size`` bytes are sent."""

    def __init__(self, send: Callable, piece: str | bytes, size: int) -> None:
        super().__init__(daemon=True)
        self._send, self._piece, self._size = send, piece, size
        self.sent, self._at = 0, time.monotonic()
        self.start()

    def run(self) -> None:
        with suppress(ConnectionClosed, OSError):
            while self.sent < self._size:
                self._send(self._piece)
                self.sent, self._at = self.sent + len(self._piece), time.monotonic()

    def held(self) -> int:
        """What was sent, when for a while no more has been; else 0."""
        return self.sent if time.monotonic() - self._at > 2 else 0


@contextmanager
def stopped(processes: Collection[int]) -> Iterator[None]:
    """Processes that do nothing meanwhile."""
    try:
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


def proxies_bytes() -> int:
    """Memory of the proxies of Serve on this machine."""
    found = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"ProxyActor" in (folder / "cmdline").read_bytes():
                pages = int((folder / "statm").read_text().split()[1])
                found += pages * os.sysconf("SC_PAGE_SIZE")
    return found


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--replicas", "2"], "--state-dir"),
        (["--replicas", "2", "--no-ray", "--state-dir", "."], "--no-ray"),
        (["--replicas", "0"], "--replicas"),
    ],
)
def test_replicas_that_could_not_work_are_refused(args, says, capsys):
    assert cli.main(["serve", "--port", "0", *args]) == errors.USAGE
    assert says in capsys.readouterr().err
