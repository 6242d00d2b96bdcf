"""A microphone for tests: a private PulseAudio whose default source is what is played into it.

It has a folder, a socket and an environment of its own, so it neither hears nor disturbs the sound
server of whoever runs the tests.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("pulseaudio", "pactl", "paplay")


@dataclass(frozen=True)
class VirtualMicrophone:
    """``env`` is for programs that shall hear it."""

    env: dict[str, str]
    server: subprocess.Popen

    def play(self, path: Path) -> None:
        """Plays a WAV file; returns when the last of it has sounded."""
        command = ["paplay", "-d", "virtual", str(path)]
        subprocess.run(command, env=self.env, check=True, timeout=PATIENCE_S)

    def control(self, *args: str) -> str:
        env = {**self.env, "LC_ALL": "C"}
        return subprocess.run(["pactl", *args], env=env, capture_output=True, text=True).stdout

    def unplug(self) -> None:
        self.server.kill()
        self.server.wait()


@contextmanager
def virtual_microphone(rate_hz: int = 44_100, channels: int = 2) -> Iterator[VirtualMicrophone]:
    """Starts one; skips the test where that is impossible, unless CI has to make it possible."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        unavailable(f"{', '.join(missing)} not installed (apt install pulseaudio pulseaudio-utils)")
    with tempfile.TemporaryDirectory(prefix="microphone-") as home:
        env = _environment(Path(home))
        server = subprocess.Popen(
            [
                *("pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no"),
                *("--exit-idle-time=-1", "--realtime=no", "--high-priority=no"),
                *("-L", f"module-native-protocol-unix auth-anonymous=1 socket={home}/native"),
                *("-L", f"module-null-sink sink_name=virtual rate={rate_hz} channels={channels}"),
            ],
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            microphone = VirtualMicrophone(env, server)
            _wait_for(microphone)
            yield microphone
        finally:
            server.kill()
            server.wait()


def unavailable(reason: str) -> None:
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"no virtual microphone, which CI must have: {reason}")
    pytest.skip(f"no virtual microphone: {reason}")


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PULSE")}
    return kept | {
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "XDG_CONFIG_HOME": str(home),
        "PULSE_SERVER": f"unix:{home}/native",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }


def _wait_for(microphone: VirtualMicrophone) -> None:
    until = time.monotonic() + PATIENCE_S
    while "virtual.monitor" not in microphone.control("list", "short", "sources"):
        if microphone.server.poll() is not None or time.monotonic() > until:
            unavailable("pulseaudio does not start here")
        time.sleep(0.1)
    microphone.control("set-default-source", "virtual.monitor")
    script = (
        "from dragoman.pipeline.devices import devices; print(any(d.default for d in devices()))"
    )
    command = [sys.executable, "-c", script]
    heard = subprocess.run(command, env=microphone.env, capture_output=True, text=True)
    if heard.stdout.strip() != "True":
        what = "PortAudio does not see PulseAudio (apt install libportaudio2 libasound2-plugins)"
        unavailable(heard.stderr.strip().splitlines()[-1] if heard.stderr else what)
