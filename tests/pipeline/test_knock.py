"""Drivers and addresses: each driver is a process of its own, the cluster one that people start."""

import contextlib
import socketserver
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from dragoman.pipeline.knock import _header, knock
from tests.pipeline.batches import ray_of_our_own
from tests.pipeline.clusters import TOKEN, free_port, head, without_ray
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]


def driver(address: str | None, **environment: str) -> list[str]:
    """What a driver says that joins ``address``, or starts one; whether it knew within 10 s."""
    script = f"""
        import time
        import ray
        from dragoman.pipeline import knock, ray_processes
        knock.KNOCK_S = 1.0
        begin = time.monotonic()
        try:
            ray_processes.connect({address!r}, 1)
            print(ray.get_runtime_context().gcs_address)
        except ray_processes.PipelineError as error:
            print(error)
        print("soon" if time.monotonic() - begin < 10 else "late")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        env={**without_ray(), **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@contextlib.contextmanager
def listening(answer: bytes | None):
    """The address of a server that sends ``answer`` to whoever speaks, or says nothing at all."""

    class Answering(socketserver.BaseRequestHandler):
        def handle(self):
            while self.request.recv(1024):
                if answer is not None:
                    return self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def cluster():
    """The address of a cluster of `ray start --head`, which lets in who has TOKEN."""
    with head(cpus=2) as address:
        yield address


def test_a_driver_with_the_token_joins_a_cluster(cluster):
    joined, soon = driver(cluster, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    assert joined.partition(":")[2] == cluster.partition(":")[2] and soon == "soon"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"RAY_AUTH_TOKEN": TOKEN},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "another"},
        {"RAY_AUTH_MODE": "token", "HOME": "/nonexistent"},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/nonexistent/token"},
    ],
    ids=["no mode", "token without mode", "another token", "no token", "no file"],
)
def test_a_driver_without_the_token_is_told_what_to_do_at_once(cluster, environment):
    said, soon = driver(cluster, **environment)
    assert said.startswith(f"the Ray cluster at {cluster!r} wants its token")
    assert "RAY_AUTH_MODE=token" in said and "--address auto" in said and soon == "soon"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "nonsense"])
def test_an_address_without_a_cluster_says_what_to_do(address):
    said, soon = driver(address)
    assert said.startswith(f"no Ray cluster at {address!r}") and "ray start --head" in said
    assert soon == "soon" and "Name or service" not in said


@pytest.mark.parametrize("answer", [None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH"])
def test_an_address_where_another_server_listens_says_so_at_once(answer):
    with listening(answer) as address:
        said, soon = driver(address)
    assert said.startswith(f"no Ray cluster at {address!r} (what listens there does not answer")
    assert "ray start --head" in said and soon == "soon"


def test_a_cluster_behind_tls_is_not_asked_in_plain_text(monkeypatch):
    with listening(b"") as address:
        with pytest.raises(ConnectionError):
            knock(address)
        monkeypatch.setenv("RAY_USE_TLS", "1")
        knock(address)


def test_lengths_are_written_as_http_wants_them():
    """By the example of RFC 7541, C.1.2: 1337 in a prefix of five bits is 31, 154, 10; of seven
    bits, 1337 is 127, and 1210 = 58 + 128 * 9 more.
    """
    assert _header("te", "trailers") == b"\0\2te\x08trailers"
    assert _header("a", "x" * 1337) == b"\0\1a" + bytes([127, 128 + 58, 9]) + b"x" * 1337
    assert _header("a", "x" * 127) == b"\0\1a" + bytes([127, 0]) + b"x" * 127


def test_auto_joins_neither_a_private_ray_nor_one_that_has_gone(tmp_path):
    with ray_of_our_own():
        said, soon = driver("auto", RAY_TMPDIR=str(tmp_path))
        assert said.startswith("no Ray cluster at 'auto' (none was started here") and soon == "soon"
        gone = tmp_path / "ray" / "ray_current_cluster"
        gone.parent.mkdir(exist_ok=True)
        gone.write_text(f"127.0.0.1:{free_port()}")
        said, soon = driver("auto", RAY_TMPDIR=str(tmp_path))
    assert said.startswith("no Ray cluster at 'auto'") and "refused" in said and soon == "soon"


def test_auto_joins_what_ray_start_has_left_word_of(cluster, tmp_path):
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    joined, soon = driver("auto", RAY_ADDRESS=cluster, **token)
    assert joined.partition(":")[2] == cluster.partition(":")[2] and soon == "soon"


def test_a_home_where_ray_cannot_keep_its_token_says_what_to_do():
    said, _ = driver(None, HOME="/dev/null")
    assert said.startswith("Ray cannot start here") and "RAY_AUTH_TOKEN" in said
