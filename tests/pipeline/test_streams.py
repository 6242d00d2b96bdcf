"""Sound from addresses and from standard input, sent by other programs over real connections."""

import contextlib
import functools
import http.server
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

from dragoman.errors import InputError
from dragoman.pipeline import opening
from dragoman.pipeline.media import read_audio
from dragoman.pipeline.opening import open_stream, shown
from dragoman.pipeline.streams import Stream
from tests.pipeline import media_files
from tests.waiting import PATIENCE_S, eventually

ROOT = media_files.ROOT
LIVE_S, SPEED = 12.0, 6.0  # seconds of sound, of which so many are sent in one


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> Path:
    """A steady tone, as broadcasters send sound."""
    tone = 0.3 * np.sin(np.arange(round(LIVE_S * 16_000)) * 0.2).astype(np.float32)
    path = tmp_path_factory.mktemp("stream") / "live.ts"
    return media_files.write(path, tone, "mp2", rate=48_000)


class Sender:
    """A program that sends ``path``; it can be killed, and started again at the same port."""

    def __init__(self, path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/live.ts"
        self._path = path
        self.start()

    def start(self) -> None:
        args = [str(self._path), str(self.port), str(LIVE_S / SPEED)]
        program = [sys.executable, "-m", "tests.pipeline.stream_server", *args]
        self._process = subprocess.Popen(program, cwd=ROOT)
        eventually(self._listens)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def sender(live):
    made = Sender(live)
    yield made
    made.kill()


def seconds_of_sound(pieces: list[np.ndarray]) -> list[bool]:
    """Whether there was a tone, by the tenth of a second."""
    samples = np.concatenate(pieces)
    return [np.abs(part).max() > 0.1 for part in np.array_split(samples, len(samples) // 1_600)]


def test_a_stream_that_breaks_off_goes_on_behind_a_gap_of_silence(sender):
    told: list[str] = []
    stream, heard, again = Stream(sender.url, warn=told.append), [], False
    assert stream.pace == "live"
    begin = time.monotonic()
    for piece in stream:
        heard.append(piece)
        if not again and sum(map(len, heard)) > 16_000:
            sender.kill()
            threading.Timer(2.5, sender.start).start()
            again = True
        if stream.gaps and sum(map(len, heard)) > 16_000 * (sum(stream.gaps[0]) + 1):
            stream.stop()
    took_s = time.monotonic() - begin
    ((at_s, gap_s),) = stream.gaps
    assert 1 <= at_s <= LIVE_S and 2 <= gap_s < took_s
    assert told == [f"{sender.url} broke off at {at_s:.1f} s: connecting again ..."]
    sounds = seconds_of_sound(heard)
    first, last = round(10 * at_s) + 1, round(10 * (at_s + gap_s)) - 1
    assert all(sounds[: first - 2]) and not any(sounds[first:last]) and all(sounds[last + 3 :])


def test_a_stream_that_stays_away_ends_with_an_error_behind_all_sound(sender):
    stream, heard = Stream(sender.url, reconnect_s=1.5, warn=lambda said: None), []
    with pytest.raises(InputError, match=r"no sound for 2 s: .*refused.*--reconnect"):
        for piece in stream:
            heard.append(piece)
            if len(heard) == 20:
                sender.kill()
    assert len(heard) > 20 and len(stream.gaps) == 1


def test_a_sender_that_says_nothing_has_broken_off(sender, monkeypatch):
    monkeypatch.setattr(opening, "STALLED_S", 1.0)
    stream = Stream(sender.url)
    for _ in stream:  # the file is sent, then nothing, then the file again
        if len(stream.gaps) == 1:
            stream.stop()
    assert stream.gaps[0][0] >= LIVE_S - 0.5


def test_a_sender_that_ends_every_connection_is_not_overrun(live):
    asked: list[str] = []

    class Short(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(live.read_bytes()[:18_800])

        def log_message(self, *args) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Short) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stream = Stream(f"http://127.0.0.1:{server.server_address[1]}/live.ts")
        begin, until_s = time.monotonic(), 0.0
        for _ in stream:
            until_s = time.monotonic() - begin
            if until_s > 2.5:
                stream.stop()
        server.shutdown()
    assert 2 <= len(asked) <= until_s + 1


def test_who_ends_need_not_wait_for_the_sender(sender):
    stream = Stream(sender.url)
    pieces = iter(stream)
    heard = [next(pieces)]
    with contextlib.suppress(StopIteration):
        while sum(map(len, heard)) < 16_000 * (LIVE_S - 0.5):
            heard.append(next(pieces))
    begin = time.monotonic()
    threading.Timer(0.2, stream.stop).start()
    assert len(list(pieces)) < 30
    assert time.monotonic() - begin < opening.STALLED_S / 2


def test_a_duration_is_kept_to_the_sample(sender):
    assert sum(map(len, Stream(sender.url, duration_s=1.2345))) == 19_752


@contextlib.contextmanager
def website(folder: Path):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.func.log_message = lambda *_: None  # pyright: ignore[reportAttributeAccessIssue]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_what_is_stored_elsewhere_is_heard_as_it_would_be_here(tmp_path):
    path = media_files.write(tmp_path / "talk.flac", media_files.speech(), "flac")
    with website(tmp_path) as url:
        stream = Stream(f"{url}/talk.flac")
        assert stream.pace == "real-time"
        assert np.array_equal(np.concatenate([*stream]), np.concatenate([*read_audio(path)]))
        with pytest.raises(InputError, match="gives no sound .*Not Found.*check the address"):
            Stream(f"{url}/none.flac")
        with pytest.raises(InputError, match="no channel 2: its sound has 1"):
            Stream(f"{url}/talk.flac", channel=2)


def test_sound_that_cannot_be_heard_is_an_error_of_whoever_listens(tmp_path):
    """It is found by the thread that reads ahead."""
    (tmp_path / "fast.raw").write_bytes(bytes(100_000))
    with website(tmp_path) as url, pytest.raises(InputError, match="fast.raw: sound at 10000000"):
        list(Stream(f"{url}/fast.raw", raw_hz=10_000_000))


def playlist(folder: Path, segment: str) -> None:
    (folder / "live.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:12\n#EXTINF:12,\n{segment}\n#EXT-X-ENDLIST\n"
    )


def test_hls_is_heard_and_never_leads_to_the_disk(live, tmp_path):
    (tmp_path / "one.ts").write_bytes(live.read_bytes())
    with website(tmp_path) as url:
        playlist(tmp_path, "one.ts")
        heard = np.concatenate([*Stream(f"{url}/live.m3u8")])
        assert abs(len(heard) / 16_000 - LIVE_S) < 0.2 and np.abs(heard).max() > 0.2
        playlist(tmp_path, f"file://{live}")
        with pytest.raises(InputError):
            Stream(f"{url}/live.m3u8")


def from_stdin(data: bytes, *args: str) -> np.ndarray:
    """What a program hears whose standard input is ``data``."""
    script = f"""
        import sys
        import numpy as np
        from dragoman.pipeline.streams import Stream
        pieces = [*Stream("-", {", ".join(args)})]
        sys.stdout.buffer.write(np.concatenate(pieces).tobytes())
    """
    program = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(program, cwd=ROOT, input=data, capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr.decode()
    return np.frombuffer(done.stdout, np.float32)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.wav", "pcm_s16le"), ("a.mp3", "libmp3lame"), ("a.mkv", "libopus")]
)
def test_standard_input_may_be_any_container_that_can_be_read_as_it_comes(name, codec, tmp_path):
    path = media_files.write(tmp_path / name, media_files.speech(4), codec, rate=48_000)
    expected = np.concatenate([*read_audio(path)])
    heard = from_stdin(path.read_bytes())
    assert abs(len(heard) - len(expected)) < 1_600  # a pipe cannot be asked for its end
    same = min(len(heard), len(expected))
    assert np.corrcoef(heard[:same], expected[:same])[0, 1] > 0.99


def test_standard_input_may_be_samples():
    samples = (media_files.speech(2) * 32_767).astype("<i2")
    assert np.allclose(from_stdin(samples.tobytes(), "raw_hz=16_000"), samples / 32_768)


def test_an_address_is_shown_without_its_secrets():
    assert shown("rtsp://me:secret@camera.test:554/live?token=x") == "rtsp://camera.test:554/live"
    with pytest.raises(InputError) as raised:
        open_stream("http://me:secret@127.0.0.1:1/live?token=x")
    assert "secret" not in str(raised.value) and "token" not in str(raised.value)
    assert "127.0.0.1:1/live gives no sound" in str(raised.value)


def test_formats_that_are_streams_are_there():
    assert {"hls", "rtsp", "mpegts"} <= av.formats_available
