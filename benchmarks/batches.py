"""Our batches beside Ray Data: many small files, two workers, one of which is killed.

    python -m benchmarks.batches [--files 200] [--model nano]

cuts files of a sentence each out of the bundled recording, has them translated by
`pipeline.batch` and by `dragoman.Translator` in `map_batches`, kills a worker when a third is done,
and prints seconds: until the first file is whole, the longest wait behind the kill, and all. It
needs the extra `data`.

Unusual: both have a Ray of three cores, since Ray Data reads the files in a process of its own,
where ours are read by the driver. Ours writes subtitles and a journal as well.
"""

import argparse
import json
import os
import signal
import tempfile
import time
import wave
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dragoman.data import Translator
from dragoman.demos.stdout import own_stdout
from dragoman.pipeline.batch import Batch
from dragoman.pipeline.batch_file import Result
from dragoman.pipeline.batch_options import BatchOptions
from dragoman.pipeline.inputs import find
from dragoman.pipeline.media import read_audio
from dragoman.pipeline.pool import Pool
from dragoman.pipeline.segments import segments
from dragoman.pipeline.start import host
from dragoman.spec import ModelSpec
from dragoman.stages.messages import SAMPLE_RATE_HZ, SessionOptions
from dragoman.stages.segment import SegmentStage

TALK = Path(__file__).resolve().parents[1] / "samples" / "talk.wav"
WORKERS = 2
MARGIN = SAMPLE_RATE_HZ  # of silence behind a sentence


@dataclass
class Run:
    """When files came, in seconds from the start, and what they said."""

    begin: float = field(default_factory=time.monotonic)
    came_s: list[float] = field(default_factory=list[float])
    killed_s: float = 0.0
    texts: dict[str, str] = field(default_factory=dict[str, str])

    def note(self, name: str, text: str) -> None:
        self.came_s.append(time.monotonic() - self.begin)
        self.texts[name] = text

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.killed_s = time.monotonic() - self.begin

    def told(self, sound_s: float) -> dict[str, float]:
        behind = [self.killed_s, *(at for at in self.came_s if at > self.killed_s)]
        waits = np.diff(behind) if len(behind) > 1 else np.zeros(1)
        return {
            "files": len(self.came_s),
            "first_s": round(self.came_s[0], 1),
            "longest_wait_s": round(float(waits.max()), 1),
            "all_s": round(self.came_s[-1], 1),
            "speed": round(sound_s / self.came_s[-1], 1),
        }


def make_files(folder: Path, count: int) -> float:
    """``count`` files of a sentence each; gives how many seconds they are together."""
    sound = [*read_audio(TALK)]
    sentences = [one.samples for one in segments(sound, SegmentStage(), SessionOptions())]
    total = 0
    for number in range(count):
        samples = np.pad(sentences[number % len(sentences)], (0, MARGIN))
        with wave.open(str(folder / f"{number:04}.wav"), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
            file.writeframes((samples * 32767).astype("<i2").tobytes())
        total += len(samples)
    return total / SAMPLE_RATE_HZ


def ours(folder: Path, out: Path, spec: ModelSpec) -> Run:
    """By `pipeline.batch`, with the .json of each file."""
    sources, _ = find([str(folder)], out)
    run = Run()
    batch = Batch(sources, BatchOptions(spec=spec, formats=("srt", "json")))
    pool = Pool.start(host(ray=True), batch.recipes, WORKERS, batch.look)
    for event in [*batch.prepare(), *batch.write()]:
        raise SystemExit(f"{event.path}: {event.reason}")
    for event in batch.run(pool):
        if isinstance(event, Result):
            (path,) = [path for path in event.outputs if path.suffix == ".json"]
            form = json.loads(path.read_text(encoding="utf-8"))
            run.note(event.path.stem, " ".join(one["transcript"] for one in form["segments"]))
            if not run.killed_s and 3 * len(run.came_s) > len(sources):
                run.kill(pool.pids()[0])
    batch.close()
    pool.stop()
    return run


class Telling(Translator):
    """Says in which process a row was made."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        rows = super().__call__(batch)
        return rows | {"pid": [os.getpid()] * len(rows["segment"])}


def by_ray_data(folder: Path, spec: ModelSpec) -> Run:
    """By Ray Data; a file is there when all of its segments are."""
    import ray.data

    files = sorted(folder.iterdir())
    expected = {str(path): len(Translator.segments({"path": str(path)})) for path in files}
    run = Run()
    rows = ray.data.from_items([{"path": str(path)} for path in files])
    rows = rows.flat_map(Translator.segments).map_batches(
        Telling, fn_constructor_kwargs={"spec": spec}, batch_size=8, concurrency=WORKERS
    )
    came, texts = Counter[str](), dict[str, dict[int, str]]()
    for row in rows.iter_rows():
        path = row["path"]
        came[path] += 1
        texts.setdefault(path, {})[row["segment"]] = row["transcript"]
        if came[path] == expected[path]:
            said = [text for _, text in sorted(texts[path].items()) if text]
            run.note(Path(path).stem, " ".join(said))
        if not run.killed_s and 3 * len(run.came_s) > len(files):
            run.kill(int(row["pid"]))
    return run


def main() -> None:
    import ray

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--model", default="nano")
    args = parser.parse_args()
    spec = ModelSpec(args.model, threads=1)
    with tempfile.TemporaryDirectory() as temporary, own_stdout() as out:
        folder = Path(temporary) / "media"
        folder.mkdir()
        sound_s = make_files(folder, args.files)
        ray.init(address="local", num_cpus=WORKERS + 1, include_dashboard=False)
        mine = ours(folder, Path(temporary) / "out", spec)
        theirs = by_ray_data(folder, spec)
        same = sum(mine.texts.get(name) == text for name, text in theirs.texts.items())
        told = {
            "sound_s": round(sound_s),
            "ours": mine.told(sound_s),
            "ray_data": theirs.told(sound_s),
            "same_texts": same,
        }
        print(json.dumps(told, indent=1), file=out)


if __name__ == "__main__":
    main()
