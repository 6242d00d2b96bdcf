"""How many people one machine can listen to at once, with the bundled model.

Sessions of the same recording, each from another place of it, run in real time through the whole
graph of Ray actors, this process included. A number of them is carried if 95 of 100 captions come
within 500 ms of the sound they show and the updates are really made: a session that lags skips
updates, and more than a twentieth of those would hide the lag.
"""

import statistics
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from benchmarks import sounds
from benchmarks.context import Bench
from benchmarks.rows import Measurement, Result, Row
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.session import Session
from dragoman.pipeline.start import start
from dragoman.spec import ModelSpec
from dragoman.stages.messages import CHUNK_SAMPLES, SAMPLE_RATE_HZ

MOST_MS = 500
MOST_SKIPPED = 0.05
LADDER = (4, 8, 12, 16, 20, 24, 28, 32, 40, 48)

SESSIONS = Row(
    "sessions_nano",
    "real-time sessions at once, nano, whole Ray graph, p95 partial latency under 500 ms",
    "sessions",
    higher=True,
    peer="one session",
    target=24.0,
)


@dataclass
class Crowd:
    """What sessions that ran together saw."""

    latencies_ms: list[float] = field(default_factory=list)
    chunks: int = 0
    skipped: int = 0
    errors: list[Exception] = field(default_factory=list)

    @property
    def p95_ms(self) -> float:
        if len(self.latencies_ms) < 2:
            return float("inf")
        return statistics.quantiles(self.latencies_ms, n=20)[-1]

    @property
    def skipped_share(self) -> float:
        return self.skipped / max(1, self.chunks)

    @property
    def carried(self) -> bool:
        return not self.errors and self.p95_ms <= MOST_MS and self.skipped_share <= MOST_SKIPPED


def sessions(bench: Bench, start: Callable[[], Chain] | None = None) -> Iterable[Result]:
    """Climbs the ladder until a number of sessions is too many."""
    seconds = 2.0 if bench.small else 10.0 if bench.quick else 20.0
    chain = start() if start else _graph(bench)
    best, seen = 0, {}
    try:
        for count in LADDER[:1] if bench.small else LADDER:
            crowd = run(chain, count, seconds)
            if crowd.errors:
                raise crowd.errors[0]
            seen[count] = {
                "p95_ms": round(crowd.p95_ms) if crowd.latencies_ms else None,
                "skipped": round(crowd.skipped_share, 3),
            }
            if not crowd.carried:
                break
            best = count
    finally:
        chain.stop()
    yield Result(SESSIONS, best, 1, detail={"by_sessions": seen, "seconds": seconds})


def run(chain: Chain, count: int, seconds: float) -> Crowd:
    """``count`` sessions at once, each so long; they begin within one chunk's time."""
    crowd, sound = Crowd(), sounds.talk()
    length = int(seconds * SAMPLE_RATE_HZ)
    listeners = []
    for number in range(count):
        shifted = np.roll(sound, -number * len(sound) // count)
        whole = np.resize(shifted, length)
        listeners.append(threading.Thread(target=_listen, args=(chain, whole, crowd), daemon=True))
    for listener in listeners:
        listener.start()
        time.sleep(CHUNK_SAMPLES / SAMPLE_RATE_HZ / count)
    for listener in listeners:
        listener.join()
    return crowd


def _listen(chain: Chain, sound: np.ndarray, crowd: Crowd) -> None:
    session = Session(chain, [sound], pace="real-time")
    try:
        for caption in session:
            if "partial_ms" in caption.latency:
                crowd.latencies_ms.append(caption.latency["partial_ms"])
    except Exception as error:
        crowd.errors.append(error)
    crowd.chunks += len(sound) // CHUNK_SAMPLES
    crowd.skipped += session.skipped_updates


def _graph(bench: Bench) -> Chain:
    return start(ModelSpec(bench.nano, bench.device))


MEASUREMENTS = (Measurement("sessions_nano", (SESSIONS,), sessions),)
