"""How many people a server can hear at once, and what hostile clients do to the others.

    python -m benchmarks.serve [--minutes 10] [--quick] [--out docs] [--only served_hostile]

starts `dragoman serve` with the bundled model and speaks to it in real time. *Sessions*: more and
more of them, until the deltas come later than 500 ms at the 95th percentile, or are fewer than nine
in ten of those that a session alone gets, as a server that lags leaves updates out; with one server
and with two replicas. *Hostile*: twelve honest clients and four others for so many minutes; what
the honest ones were told is compared with what one was told that was alone.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine, sounds
from benchmarks.clients import Client, Heard, Server, server
from benchmarks.context import Bench
from benchmarks.rows import Measurement, Result, Row
from dragoman.stages.messages import CHUNK_SAMPLES, SAMPLE_RATE_HZ

MOST_MS, LEAST_DELTAS = 500, 0.9
LADDER = (1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48)
PLACES = ("--max-sessions", "64")
HONEST, MINUTES, SAMPLES = 12, 10.0, 40
KEY = "the-key"

PER_CORE = "sessions a core"
ONE = Row("served_sessions", "live sessions at one server, nano", PER_CORE, True, "one session")
TWO = Row("served_sessions_2", "live sessions at two replicas, nano", PER_CORE, True, "one session")
HOSTILE = Row(
    "served_hostile", "p95 of 12 clients beside 4 hostile ones, nano", "ms", False, "one alone"
)


def sessions(bench: Bench, row: Row, replicas: int | None = None) -> Iterable[Result]:
    """Climbs the ladder until a number of sessions is too many."""
    with tempfile.TemporaryDirectory() as state:
        options = [*PLACES, "--model", bench.nano]
        if replicas is not None:
            options += ["--replicas", str(replicas), "--state-dir", state]
        with server(options) as served:
            best, seen = climb(served.url, LADDER[:2] if bench.small else LADDER, bench.small)
    detail = {"sessions": best, "by_sessions": seen}
    yield Result(row, best / bench.machine.cores, detail=detail)


def climb(
    url: str, ladder: Iterable[int], small: bool = False
) -> tuple[int, dict[int, dict[str, Any]]]:
    """The most sessions that were carried, and what was seen of each number."""
    sound, best, seen = _talk(small), 0, {}
    alone = asyncio.run(_together(url, sound, 1))
    segments = alone.texts[0].count("\n") + 1
    for count in ladder:
        heard = asyncio.run(_together(url, sound, count, segments))
        deltas = heard.deltas / count / max(1, alone.deltas)
        lost = len(heard.broken) + heard.refused
        carried = heard.p95_ms <= MOST_MS and deltas >= LEAST_DELTAS and not lost
        seen[count] = {
            "p95_ms": round(heard.p95_ms),
            "deltas": round(deltas, 3),
            "same_texts": sum(text == alone.texts[0] for text in heard.texts),
            "lost": lost,
        }
        if not carried:
            break
        best = count
    return best, seen


async def _together(url: str, sound: np.ndarray, count: int, segments: int | None = None) -> Heard:
    """``count`` sessions at once; they begin within one chunk's time."""
    heard = Heard()

    async def one(number: int) -> None:
        await asyncio.sleep(number * CHUNK_SAMPLES / SAMPLE_RATE_HZ / count)
        await Client(url, sound, heard, segments).speak()

    await asyncio.gather(*(one(number) for number in range(count)))
    return heard


def hostile(
    bench: Bench, minutes: float = MINUTES, honest: int = HONEST, options: Sequence[str] = ()
) -> Iterable[Result]:
    """Honest clients beside hostile ones; they begin one after the other, all through a talk."""
    with server([*PLACES, "--model", bench.nano, *options], KEY) as served:
        sound = _talk(bench.small)
        alone = Heard()
        asyncio.run(Client(served.url, sound, alone, key=KEY).speak())
        harm = subprocess.Popen([sys.executable, "-m", "benchmarks.hostile", served.url, KEY])
        try:
            heard, memory = asyncio.run(
                _beside(served, sound, alone.texts[0].count("\n") + 1, 60 * minutes, honest)
            )
        finally:
            harm.kill()
            harm.wait()
    same = Counter(text == alone.texts[0] for text in heard.texts)
    third = max(1, len(memory) // 3)
    detail = {
        "minutes": minutes,
        "talks": len(heard.texts),
        "same_texts": same[True],
        "refused": heard.refused,
        "broken": len(heard.broken),
        "memory_mb": {
            "first_third": round(max(memory[:third]) / 1e6),
            "last_third": round(max(memory[-third:]) / 1e6),
        },
    }
    yield Result(HOSTILE, heard.p95_ms, alone.p95_ms, detail=detail)


async def _beside(
    served: Server, sound: np.ndarray, segments: int, seconds: float, honest: int
) -> tuple[Heard, list[int]]:
    """What the honest ones were told, and the server's memory all the while."""
    heard, memory, end = Heard(), list[int](), time.monotonic() + seconds

    async def one(number: int) -> None:
        await asyncio.sleep(number * len(sound) / SAMPLE_RATE_HZ / honest)
        await Client(served.url, sound, heard, segments, KEY).speak_until(end)

    async def watch() -> None:
        while time.monotonic() < end:
            memory.append(await asyncio.to_thread(served.memory_bytes))
            await asyncio.sleep(seconds / SAMPLES)

    await asyncio.gather(watch(), *(one(number) for number in range(honest)))
    return heard, memory


def _talk(small: bool) -> np.ndarray:
    talk = sounds.talk()
    return talk[: 6 * SAMPLE_RATE_HZ] if small else talk


MEASUREMENTS = (
    Measurement("served_sessions", (ONE,), partial(sessions, row=ONE), heavy=True),
    Measurement("served_sessions_2", (TWO,), partial(sessions, row=TWO, replicas=2), heavy=True),
    Measurement("served_hostile", (HOSTILE,), hostile, heavy=True),
)


def main() -> None:
    from benchmarks.__main__ import clean_up_when_ended, run  # it knows all measurements, and these

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="among hostile clients")
    parser.add_argument("--quick", action="store_true", help="a few seconds of speech, few clients")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="where results are written")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="repeatable")
    args = parser.parse_args()
    clean_up_when_ended()
    told = {"served_hostile": partial(hostile, minutes=args.minutes)}
    wanted = [
        Measurement(each.name, each.rows, told.get(each.name, each.run))
        for each in MEASUREMENTS
        if not args.only or each.name in args.only
    ]
    bench = Bench(machine.measure("cpu"), quick=args.quick, small=args.quick)
    if not run(bench, wanted, args.out):
        sys.exit(1)


if __name__ == "__main__":
    main()
