"""The Ray that a command starts for itself: who can reach it, and whether it grows."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
    import json, os, time
    from dragoman.pipeline.ray_processes import connect
    import ray

    def processes():
        parents = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat") as file:
                    parents[int(pid)] = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                pass
        found = {os.getpid()}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return found

    def listening():
        sockets = set()
        for pid in processes():
            for fd in os.listdir(f"/proc/{pid}/fd"):
                try:
                    sockets.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
                except OSError:
                    pass
        for kind in ("tcp", "tcp6"):
            with open(f"/proc/net/{kind}") as file:
                for line in file.readlines()[1:]:
                    parts = line.split()
                    if parts[3] == "0A" and f"socket:[{parts[9]}]" in sockets:
                        yield parts[1].partition(":")[0]

    def head_bytes():
        for pid in processes():
            with open(f"/proc/{pid}/cmdline") as file:
                if "gcs_server" in file.read().partition(chr(0))[0]:
                    with open(f"/proc/{pid}/statm") as sizes:
                        return int(sizes.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @ray.remote
    class Worker:
        def work(self):
            return 1

    connect(None, 2)
    worker = Worker.remote()
    ray.get(worker.work.remote())
    addresses, before = sorted(set(listening())), head_bytes()
    for _ in range(40):
        ray.get([worker.work.remote() for _ in range(150)])
    time.sleep(2)  # events are sent each second
    print(json.dumps({"addresses": addresses, "grown": head_bytes() - before}))
    ray.shutdown()
"""
LOOPBACK = {
    "0100007F",  # 127.0.0.1
    "0000000000000000FFFF00000100007F",  # the same as an address of IPv6
    "00000000000000000000000001000000",  # ::1
}


@pytest.fixture(scope="module")
def seen() -> dict:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.ray
def test_it_listens_on_this_machine_alone(seen):
    assert seen["addresses"] and set(seen["addresses"]) <= LOOPBACK


@pytest.mark.ray
def test_its_head_does_not_grow_with_the_calls(seen):
    """6 000 calls took 20 MB while each left an event."""
    assert seen["grown"] < 5e6
