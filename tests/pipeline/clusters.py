"""Ray clusters of several nodes on this machine, as people start them: by `ray start`."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.waiting import PATIENCE_S, eventually

TOKEN = "0123456789abcdef" * 10  # longer than what a length of one byte can say


@contextlib.contextmanager
def head(cpus: int) -> Iterator[str]:
    """The address of a cluster of one node, which lets in who has TOKEN."""
    folder, port = tempfile.mkdtemp(prefix="ray-", dir="/tmp"), free_port()
    with _started(
        *("--head", "--port", str(port), "--num-cpus", str(cpus)),
        *("--include-dashboard", "false", "--temp-dir", folder),
    ) as process:
        eventually(lambda: Path(folder, "ray_current_cluster").exists() or process.poll())
        yield f"127.0.0.1:{port}"
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def node(address: str, cpus: int) -> Iterator[subprocess.Popen]:
    """Another node of the cluster at ``address``, in a group of processes of its own."""
    with _started("--address", address, "--num-cpus", str(cpus)) as process:
        yield process


def kill(process: subprocess.Popen) -> None:
    """Ends all processes of a node at once."""
    os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _started(*args: str) -> Iterator[subprocess.Popen]:
    # A session of its own, so that it can be ended without `ray stop`, which ends all of them.
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *args],
        env={**without_ray(), "RAY_AUTH_TOKEN": TOKEN, "RAY_AUTH_MODE": "token"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        with contextlib.suppress(ProcessLookupError):
            kill(process)


def without_ray() -> dict[str, str]:
    """The environment without the settings of a Ray that this process may have started."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
