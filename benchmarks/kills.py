"""What it costs a listener when processes of the live pipeline are killed.

    python -m benchmarks.kills [--minutes 3] [--kills 10] [--seed 0] [--model nano]

plays the bundled recording again and again as if it were spoken now, kills actors (SIGKILL) at
moments and of stages that the seed chooses, and prints how late captions came after each, and
whether files and texts are those of a session that nothing happened to, byte for byte.

Unusual: how long a kill lasts is told by the captions behind it. In a pause a death is noticed, and
costs something, only when people speak again, so the clock runs from the sound of a caption to the
caption (`partial_ms`), and the latest of the captions until the next kill counts.
"""

import argparse
import json
import os
import random
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np

from dragoman.demos.stdout import own_stdout
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.media import read_audio
from dragoman.pipeline.runner import ActorDied
from dragoman.pipeline.saving import Saving
from dragoman.pipeline.session import Pace, Session
from dragoman.pipeline.start import start
from dragoman.spec import ModelSpec
from dragoman.stages.messages import SAMPLE_RATE_HZ, SessionOptions

TALK = Path(__file__).resolve().parents[1] / "samples" / "talk.wav"
WHOLE_S = 10.0  # from the last kill to the end


@dataclass
class Listened:
    """What a session gave: the latest caption behind each kill in ms, and its files by name."""

    stalls_ms: list[int] = field(default_factory=list[int])
    usual_ms: list[int] = field(default_factory=list[int])  # of captions before the first kill
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])


class Killer:
    """Kills an actor of ``chain`` at each of ``moments``, seconds of the stream, in order."""

    def __init__(self, chain: Chain, moments: list[float], rng: random.Random) -> None:
        self.killed: list[float] = []  # when it was done
        self._chain, self._moments, self._rng = chain, moments, rng

    def until(self, heard_s: float) -> None:
        """Kills what is due once so much was heard."""
        while len(self.killed) < len(self._moments) and heard_s >= self._moments[len(self.killed)]:
            os.kill(self._rng.choice(self._pids()), signal.SIGKILL)
            self.killed.append(heard_s)

    def _pids(self) -> list[int]:
        """The actors' processes; waits for those that take the place of others."""
        for _ in range(100):
            try:
                return self._chain.pids()
            except ActorDied:
                time.sleep(0.1)
        raise RuntimeError("an actor was not replaced within 10 s")


def stream(seconds: float) -> np.ndarray:
    """The bundled recording over and over, float32 [S]."""
    talk = np.concatenate([*read_audio(TALK)])
    return np.resize(talk, round(seconds * SAMPLE_RATE_HZ))


def listen(
    chain: Chain, sound: np.ndarray, pace: Pace, folder: Path, killer: Killer | None = None
) -> Listened:
    """Captions ``sound``, float32 [S], and saves what is final into ``folder``."""
    options = SessionOptions()
    saving, heard = Saving(folder, "talk", "talk.wav", chain.model, options), Listened()
    session = Session(chain, [sound], options, pace, warn=lambda message: None)
    over = threading.Event()
    if killer is not None:
        threading.Thread(target=_kill, args=(killer, session, over), daemon=True).start()
    for caption in session:
        if caption.kind == "final":
            saving.add(caption, session.heard_s)
        if killer is not None:
            _note(heard, killer, caption.latency.get("partial_ms", 0))
    over.set()
    saving.duration_s = session.heard_s
    saving.end([])
    heard.files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return heard


def _kill(killer: Killer, session: Session, over: threading.Event) -> None:
    while not over.wait(0.02):
        killer.until(session.heard_s)


def _note(heard: Listened, killer: Killer, late_ms: int) -> None:
    if not killer.killed:
        heard.usual_ms.append(late_ms)
        return
    heard.stalls_ms += [0] * (len(killer.killed) - len(heard.stalls_ms))
    heard.stalls_ms[-1] = max(heard.stalls_ms[-1], late_ms)


def moments(kills: int, seconds: float, rng: random.Random) -> Iterator[float]:
    """Seeded moments of a stream of so many ``seconds``, one in each of as many equal parts."""
    part = (seconds - WHOLE_S) / kills
    for number in range(kills):
        yield part * (number + rng.uniform(0.1, 0.9))


def compare(model: str, minutes: float, kills: int, seed: int) -> dict[str, object]:
    """Both sessions, and what there is to say about them."""
    rng, sound = random.Random(seed), stream(60 * minutes)
    with start(ModelSpec(model)) as chain, tempfile.TemporaryDirectory() as folder:
        folders = (Path(folder) / str(number) for number in count())
        calm, killed = next(folders), next(folders)
        calm.mkdir()
        killed.mkdir()
        whole = listen(chain, sound, "fast", calm)
        killer = Killer(chain, [*moments(kills, 60 * minutes, rng)], rng)
        heard = listen(chain, sound, "real-time", killed, killer)
    different = sorted(n for n in whole.files if heard.files.get(n) != whole.files[n])
    return {
        "kills": len(killer.killed),
        "stall_p50_ms": round(statistics.median(heard.stalls_ms)),
        "stall_p95_ms": round(float(np.percentile(heard.stalls_ms, 95))),
        "stalls_ms": heard.stalls_ms,
        "usual_p50_ms": round(statistics.median(heard.usual_ms or [0])),
        "identical": not different,
        "different": different,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="nano")
    args = parser.parse_args()
    if args.kills < 1 or 60 * args.minutes <= WHOLE_S:
        parser.error(f"--kills from 1 on, --minutes of more than {WHOLE_S:.0f} seconds")
    with own_stdout() as out:  # Ray tells there of processes that ended
        told = compare(args.model, args.minutes, args.kills, args.seed)
        print(json.dumps(told, indent=2), file=out)


if __name__ == "__main__":
    main()
