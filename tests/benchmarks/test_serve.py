"""What `benchmarks.serve` measures, in short: a server of its own, and clients that mean harm."""

import asyncio
from statistics import quantiles

import numpy as np

from benchmarks.clients import Client, Heard, server
from benchmarks.context import Bench
from benchmarks.serve import HOSTILE, climb, hostile


def test_clients_beside_hostile_ones_are_told_what_one_alone_is_told(machine):
    bench = Bench(machine, small=True)
    (found,) = hostile(bench, minutes=0.2, honest=3, options=["--no-ray"])
    detail = found.detail
    assert found.row == HOSTILE and found.ours > 0
    assert detail["same_texts"] == detail["talks"] >= 3
    assert detail["broken"] == detail["refused"] == 0
    memory = detail["memory_mb"]
    assert 100 < memory["last_third"] < 1.25 * memory["first_third"]


def test_numbers_of_sessions_are_tried_until_one_is_too_many(monkeypatch):
    monkeypatch.setattr("benchmarks.serve.MOST_MS", 60_000)
    with server(["--no-ray", "--max-sessions", "2"]) as served:
        best, seen = climb(served.url, (2, 3, 4), small=True)
    assert (best, list(seen)) == (2, [2, 3])  # the third is refused
    assert [each["same_texts"] for each in seen.values()] == [2, 2]
    assert [each["lost"] for each in seen.values()] == [0, 1]


def test_a_server_that_is_not_there_is_noted():
    heard = Heard()
    asyncio.run(Client("http://127.0.0.1:1", np.zeros(9, np.float32), heard).speak())
    assert len(heard.broken) == 1 and heard.texts == []


def test_the_percentile_is_that_of_all_deltas():
    heard = Heard(latencies_ms=[float(ms) for ms in range(100)])
    assert heard.p95_ms == quantiles(range(100), n=20)[-1]
    assert Heard().p95_ms == float("inf")
