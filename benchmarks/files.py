"""How quick a batch is: many files by `dragoman translate`, beside faster-whisper on the same ones.

    python -m benchmarks.files [--minutes 30] [--model nano] [--dtype auto] [--peer build/whisper]

makes files of eight sentences each out of the bundled recording and runs the command with one
worker and with two, with segments that share passes and without. A line for each run: seconds, the
real-time factor (seconds of work a second of sound; starting and loading count), and the most
memory that its processes had, each page counted once.

whisper-base (int8, greedy, two threads; fetched by `python -m evaluation.peer`) only transcribes;
ours writes transcript, translation and subtitles. Unusual: a checkpoint of random weights writes
every answer up to its limit, several times as long as what was said.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.batches import MARGIN, TALK
from dragoman.pipeline.media import read_audio
from dragoman.pipeline.segments import segments
from dragoman.stages.messages import SAMPLE_RATE_HZ, SessionOptions
from dragoman.stages.segment import SegmentStage

SENTENCES = 8  # a file
RUNS = ((1, 1), (1, 8), (2, 1), (2, 8))  # workers, segments that share passes
POLL_S = 0.5


def make_files(folder: Path, minutes: float) -> float:
    """Files of the bundled sentences in turn; gives how many seconds they are together."""
    spoken = segments([*read_audio(TALK)], SegmentStage(), SessionOptions())
    sentences = [np.pad(one.samples, (0, MARGIN)) for one in spoken]
    total = number = 0
    while total < minutes * 60 * SAMPLE_RATE_HZ:
        several = [sentences[(number * 3 + k) % len(sentences)] for k in range(SENTENCES)]
        samples = np.concatenate(several)
        with wave.open(str(folder / f"{number:04}.wav"), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
            file.writeframes((samples * 32767).astype("<i2").tobytes())
        total, number = total + len(samples), number + 1
    return total / SAMPLE_RATE_HZ


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds that a command takes, and the most memory of its processes, in GB."""
    begin, most = time.monotonic(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None:
        most = max(most, sum(map(_memory, _session(process.pid))))
        time.sleep(POLL_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.monotonic() - begin, most / 1e6


def _session(leader: int) -> Iterator[int]:
    """The processes of a session."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            behind_name = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(behind_name[3]) == leader:
            yield int(path.parent.name)


def _memory(pid: int) -> int:
    """The memory of a process in kB, pages of several in equal parts."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def ours(folder: Path, args: argparse.Namespace, workers: int, together: int) -> list[str]:
    out = folder.parent / f"out-{workers}-{together}"
    return [
        *(sys.executable, "-m", "dragoman.demos.cli", "translate", str(folder), "-o", str(out)),
        *("-q", "--model", args.model, "--dtype", args.dtype),
        *("--workers", str(workers), "--batch-size", str(together)),
    ]


def whisper(folder: Path, model: Path) -> list[str]:
    """A process that transcribes all files, one after the other."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom faster_whisper import WhisperModel\n"
        "model = WhisperModel(sys.argv[2], 'cpu', compute_type='int8', cpu_threads=2)\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    found, _ = model.transcribe(str(path), language='es', beam_size=1)\n"
        "    print(*(segment.text for segment in found))\n"
    )
    return [sys.executable, "-c", script, str(folder), str(model)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--peer", type=Path, default=Path("build/whisper"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "media"
        folder.mkdir()
        sound_s = make_files(folder, args.minutes)
        print(f"{len(os.listdir(folder))} files, {sound_s / 60:.1f} minutes of sound", flush=True)
        print("| run | seconds | real-time factor | memory, GB |\n|---|---|---|---|", flush=True)
        runs = {
            f"{workers} workers, {together} segments a pass": ours(folder, args, workers, together)
            for workers, together in RUNS
        }
        if args.peer.is_dir():
            runs["whisper-base, transcript alone"] = whisper(folder, args.peer)
        for name, command in runs.items():
            spent_s, memory_gb = measured(command)
            row = (name, f"{spent_s:.1f}", f"{spent_s / sound_s:.3f}", f"{memory_gb:.2f}")
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
