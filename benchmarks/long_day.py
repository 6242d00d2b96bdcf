"""Two hours of mixed sound, twice: does any process of a run grow?

    python -m benchmarks.long_day [--hours 2] [--times 2] [--only KIND] [--model nano] [--plot PNG]

hears speech, pink noise, music and silence in turn, ten minutes of each mixture, as fast as it can,
through live captions on Ray, and saves them as `dragoman captions` does. Each minute of sound it
looks at the memory of this process and of all below it, Ray's own too. The table shows each at the
middle and at the end of a session, and how much it grew between them, which should be nothing; and
the words that were shown where nobody spoke. ``--only`` hears one kind alone.
"""

import argparse
import os
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks import processes
from benchmarks.kills import stream
from dragoman.demos.stdout import own_stdout
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.saving import Saving
from dragoman.pipeline.session import Session
from dragoman.pipeline.start import start
from dragoman.spec import ModelSpec
from dragoman.stages.messages import SAMPLE_RATE_HZ, SessionOptions
from evaluation import noise

# Minutes of each kind in ten.
KINDS = {"speech": 4, "noise": 2, "music": 2, "silence": 2}
VARIANTS = 3  # minutes of each kind that are different
MINUTE = 60 * SAMPLE_RATE_HZ
HERE = "dragoman (this process)"
AROUND = 5  # looks at a process that are taken together
Memory = dict[str, list[float]]  # MB of each process, a minute of sound apart


@dataclass
class Day:
    """What a session showed: the memory of processes, and words by kind of sound."""

    memory: Memory = field(default_factory=Memory)
    words: Counter[str] = field(default_factory=Counter)


def kind_of(minute: int, only: str | None = None) -> str:
    """What is heard in a minute, counted from 0."""
    if only is not None:
        return only
    kinds = [kind for kind, minutes in KINDS.items() for _ in range(minutes)]
    return kinds[minute % len(kinds)]


def sound(kind: str, seed: int) -> np.ndarray:
    """A minute of a kind, float32 [S]."""
    rng = np.random.default_rng(seed)
    if kind == "speech":
        return stream(60)
    return {"noise": noise.pink, "music": noise.music, "silence": noise.silence}[kind](MINUTE, rng)


def hear(chain: Chain, minutes: int, folder: Path, only: str | None = None) -> Day:
    """A session of so many ``minutes``; its files are in ``folder`` then."""
    day, options = Day(), SessionOptions()
    kinds = {kind_of(minute, only) for minute in range(minutes)}
    # Made before: what it takes to make them is no part of the run.
    made = {kind: [sound(kind, seed) for seed in range(VARIANTS)] for kind in kinds}

    def pieces() -> Iterator[np.ndarray]:
        for minute in range(minutes):
            yield from np.array_split(made[kind_of(minute, only)][minute % VARIANTS], 60)
            look(day.memory, minute)

    saving = Saving(folder, "day", "day", chain.model, options)
    session = Session(chain, pieces(), options, "fast", warn=lambda message: None)
    for caption in session:
        if caption.kind == "final":
            saving.add(caption, session.heard_s)
            middle = (caption.start + caption.end) // 2
            kind = kind_of(middle // MINUTE, only)
            day.words[kind] += len(caption.transcript.whole.split())
    saving.end([])
    return day


def look(memory: Memory, minute: int) -> None:
    """Notes the megabytes of this process and of those below it."""
    found = {HERE: os.getpid()}
    for pid, name in sorted(processes.below(os.getpid()).items()):
        place = sum(name == known.partition(" ")[0] for known in found)
        found[f"{name} {place + 1}" if place else name] = pid
    for name, pid in found.items():
        memory.setdefault(name, [0.0] * minute).append(processes.resident(pid) / 1e6)


def rows(days: list[Day]) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Of each process the megabytes at the middle and at the end of each day."""
    for name in {name: None for day in days for name in day.memory}:
        yield name, [_middle_and_end(day.memory.get(name, [0.0])) for day in days]


def _middle_and_end(megabytes: list[float]) -> tuple[float, float]:
    half = len(megabytes) // 2
    middle = megabytes[max(0, half - AROUND) : half + 1]
    return statistics.median(middle), statistics.median(megabytes[-AROUND:])


def table(days: list[Day], minutes: int) -> str:
    """Both tables, in Markdown."""
    heads = [f"{n}: {minutes // 2} min | {minutes} min" for n in range(1, len(days) + 1)]
    lines = [f"| MB resident | {' | '.join(heads)} | most growth, second halves |"]
    lines.append("|---" * (2 * len(days) + 2) + "|")
    for name, pairs in rows(days):
        cells = [f"{value:.1f}" for pair in pairs for value in pair]
        grown = max(end - middle for middle, end in pairs)
        lines.append(f"| {name} | {' | '.join(cells)} | {grown:+.1f} |")
    lines += ["", "| sound | words shown |", "|---|---|"]
    words = sum((day.words for day in days), Counter[str]())
    return "\n".join([*lines, *(f"| {kind} | {count} |" for kind, count in words.items())])


def plot(days: list[Day], path: Path) -> None:
    """A line a process, the days one behind the other. Wants matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4))
    for name, _ in rows(days):
        megabytes = [value for day in days for value in day.memory.get(name, [])]
        axes.plot(np.arange(len(megabytes)) / 60, megabytes, label=name, linewidth=1)
    axes.set_xlabel("hours of sound")
    axes.set_ylabel("MB resident")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7, ncols=2)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=2)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    minutes = round(60 * args.hours)
    if minutes < 2 or args.times < 1:
        parser.error("--hours of two minutes or more, --times from 1 on")
    days = []
    with own_stdout() as out, start(ModelSpec(args.model)) as chain:
        for _ in range(args.times):
            with tempfile.TemporaryDirectory() as folder:
                days.append(hear(chain, minutes, Path(folder), args.only))
        print(table(days, minutes), file=out)
    if args.plot is not None:
        plot(days, args.plot)


if __name__ == "__main__":
    main()
