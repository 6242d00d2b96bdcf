"""Everything at once while processes are killed: nothing that was said may be lost unsaid.

    python -m benchmarks.chaos [--minutes 10] [--kills 50] [--seed 0] [--model nano]

`make chaos` runs it: live captions in real time, a batch of 20 files, and a page with four
visitors, each command with a Ray of its own. At moments and of kinds that the seed chooses actors,
raylets, heads of Ray (gcs_server), drivers and visitors get a SIGKILL; drivers and visitors come
back. Then all that they left is compared with an undisturbed run of the same sound. The report is a
table, and build/chaos/report.json; the exit code is 1 where something was lost without a word,
where a file of the batch is another, or one that was there before was touched.

Unusual: on a machine that is too slow for all this, live sessions lag and skip updates. Their
segments are the same then, but a text may differ; so segments whose texts differ are counted apart
from those that are missing.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.chaos_parts import (
    ACTOR,
    CLIENT,
    DRIVER,
    HEAD,
    RAYLET,
    Batch,
    Left,
    Page,
    Part,
    Sound,
    Speaker,
    Visitors,
    write_wav,
)
from benchmarks.kills import WHOLE_S, moments, stream
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.documents import document
from dragoman.pipeline.session import Session
from dragoman.pipeline.start import start
from dragoman.spec import ModelSpec
from dragoman.stages.messages import SAMPLE_RATE_HZ, SessionOptions

FOLDER = Path(__file__).resolve().parents[1] / "build" / "chaos"
FILES, VISITORS = 20, 4
KINDS = (ACTOR, ACTOR, RAYLET, HEAD, DRIVER, CLIENT)  # actors die most often
PATIENCE_S = 30.0  # for somebody to kill
LAST_S = 300.0  # for the last captions, and the rest of the batch
OLDER = "captions-20200101-000000"


@dataclass
class Verdict:
    """Segments of a part: as in an undisturbed run, with other texts, missing as its files say, and
    missing without a word.
    """

    same: int = 0
    different: int = 0
    said: int = 0
    lost: list[str] = field(default_factory=list[str])


def chaos(folder: Path, minutes: float, kills: int, seed: int, model: str) -> dict[str, Any]:
    """The whole run; the report."""
    rng, seconds = random.Random(seed), 60 * minutes
    samples = np.round(stream(seconds) * 32_767).astype(np.int16)
    inputs = _inputs(folder / "inputs", samples)
    calm = folder / "calm"
    _translate(inputs, calm, model)
    older = _older(folder, calm)
    page = Page(folder / "page", model)
    sound = Sound(samples)
    speaker = Speaker(folder / "live", sound, model)
    batch = Batch(folder / "batch", inputs, model)
    visitors = Visitors(folder / "visitors", sound, page.url, VISITORS)
    _put(older, folder)
    parts: list[Part] = [speaker, batch, page, visitors]
    try:
        killed = _disturb(sound, parts, [*moments(kills, seconds, rng)], rng)
        _let_end(parts)
    finally:
        for part in parts:
            part.close()
    with start(ModelSpec(model), ray=False) as chain:
        verdicts = {part.name: _judged(chain, samples, part.left()) for part in (speaker, visitors)}
    verdicts[batch.name] = _compared(calm, folder / "batch" / "out")
    return {
        "minutes": minutes,
        "seed": seed,
        "kills": dict(Counter(f"{kind} of {name}" for kind, name in killed)),
        "parts": {name: asdict(verdict) for name, verdict in verdicts.items()},
        "codes": {part.name: part.codes for part in parts},
        "older files as they were": all(path.read_bytes() == data for path, data in older.items()),
    }


# The run.


def _disturb(
    sound: Sound, parts: Sequence[Part], moments_s: list[float], rng: random.Random
) -> list[tuple[str, str]]:
    """Kills at each moment, and starts again what was; the kinds, and whose they were."""
    killed = []
    while not sound.over:
        _poll(parts)
        if moments_s and sound.now >= SAMPLE_RATE_HZ * moments_s[0]:
            del moments_s[0]
            killed += _kill(parts, rng)
        time.sleep(0.05)
    return killed


def _kill(parts: Sequence[Part], rng: random.Random) -> list[tuple[str, str]]:
    """Kills one process of a kind that is chosen; waits for it where it is being replaced."""
    kind, end = rng.choice(KINDS), time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        _poll(parts)
        there = [
            (part.name, pid) for part in parts if kind in part.kinds for pid in part.victims(kind)
        ]
        if there:
            name, pid = rng.choice(there)
            os.kill(pid, signal.SIGKILL)
            return [(kind, name)]
        time.sleep(0.05)
    return []


def _let_end(parts: Sequence[Part]) -> None:
    end = time.monotonic() + LAST_S
    while _poll(parts) and time.monotonic() < end:
        time.sleep(0.1)


def _poll(parts: Iterable[Part]) -> bool:
    """Starts again what was killed; whether somebody still works."""
    return any([part.poll() for part in parts])


# What was there before.


def _inputs(folder: Path, samples: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for number, part in enumerate(np.array_split(samples, FILES)):
        write_wav(folder / f"file-{number:02}.wav", part)
    return folder


def _translate(inputs: Path, out: Path, model: str) -> None:
    words = ["translate", inputs, "--model", model, "--quiet", "-o", out]
    subprocess.run(
        [sys.executable, "-m", "dragoman.demos.cli", *map(str, words)],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _older(folder: Path, calm: Path) -> dict[Path, bytes]:
    """Files of an earlier session and of an editor, by the place where they are to lie."""
    edited = (calm / "file-00.es.srt").read_bytes() + b"\nedited\n"
    session = {f"{OLDER}.json": b'{"segments": []}', f"{OLDER}.es.srt": b"as it was\n"}
    placed = {folder / "live" / name: data for name, data in session.items()}
    return {**placed, folder / "batch" / "out" / "file-00.es.srt": edited}


def _put(older: dict[Path, bytes], folder: Path) -> None:
    for path, data in older.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


# What came of it.


def _judged(chain: Chain, samples: np.ndarray, all_left: Iterable[Left]) -> Verdict:
    verdict = Verdict()
    for left in all_left:
        wanted = segments(chain, samples[left.start :] / np.float32(32_768))
        judge(left, wanted, verdict)
    return verdict


def segments(chain: Chain, sound: np.ndarray) -> list[dict[str, Any]]:
    """The segments of a document about ``sound``, float32 [S], to which nothing happened."""
    captions = Session(chain, [sound.astype(np.float32)], pace="fast")
    finals = [caption for caption in captions if caption.kind == "final"]
    return document("", chain.model, SessionOptions(), 0.0, finals, [])["segments"]


def judge(left: Left, wanted: Sequence[dict[str, Any]], verdict: Verdict) -> None:
    """Adds to ``verdict`` what became of the ``wanted`` segments in what was left.

    Where a process was killed those behind its last caption are not wanted; what it had shown is.
    """
    form = left.document or {"segments": [], "warnings": []}
    found = {segment["start"]: segment for segment in form["segments"]}
    if not left.ended:
        until = max([*found, *(shown["start"] for shown in left.shown)], default=-1.0)
        wanted = [segment for segment in wanted if segment["start"] <= until]
    for segment in wanted:
        kept = found.get(segment["start"])
        if kept is None and form["warnings"]:
            verdict.said += 1
        elif kept is None:
            verdict.lost.append(segment["transcript"])
        elif all(kept[key] == segment[key] for key in ("transcript", "translation")):
            verdict.same += 1
        else:
            verdict.different += 1


def _compared(calm: Path, out: Path) -> Verdict:
    """Files of a batch, of which those that are edited may not have been touched."""
    verdict = Verdict()
    for path in sorted(calm.glob("file-*")):
        other = out / path.name
        if path.name.startswith("file-00"):  # whose subtitles were edited
            continue
        if not other.exists():
            verdict.lost.append(path.name)
        elif other.read_bytes() == path.read_bytes():
            verdict.same += 1
        else:
            verdict.different += 1
    return verdict


def table(report: dict[str, Any]) -> str:
    """The report for people, as a table of Markdown."""
    lines = ["| part | as undisturbed | another text | missing, as it says | lost |"]
    lines.append("|---|---|---|---|---|")
    for name, told in report["parts"].items():
        counts = (told["same"], told["different"], told["said"], len(told["lost"]))
        lines.append(f"| {name} | {' | '.join(map(str, counts))} |")
    kills = ", ".join(f"{count} {what}" for what, count in sorted(report["kills"].items()))
    codes = ", ".join(f"{name} {told}" for name, told in report["codes"].items() if told)
    ended = f"Exit codes of what was not killed: {codes or 'none'}."
    return "\n".join([*lines, "", f"Killed: {kills}. {ended}"])


def good(report: dict[str, Any]) -> bool:
    """Whether nothing was lost, no file of the batch is another, and nothing older was touched.

    A part that shows nothing, or visitors who ended by an error, have shown no such thing.
    """
    parts = report["parts"]
    idle = [name for name, part in parts.items() if not part["same"] + part["different"]]
    lost = [name for name, part in parts.items() if part["lost"]]
    failed = parts["batch"]["different"] or any(report["codes"].get("visitors", ()))
    return report["older files as they were"] and not (idle or lost or failed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="nano")
    args = parser.parse_args()
    if args.kills < 1 or 60 * args.minutes <= WHOLE_S:
        parser.error(f"--kills from 1 on, --minutes of more than {WHOLE_S:.0f} seconds")
    shutil.rmtree(FOLDER, ignore_errors=True)
    report = chaos(FOLDER, args.minutes, args.kills, args.seed, args.model)
    (FOLDER / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print(table(report))
    sys.exit(0 if good(report) else 1)


if __name__ == "__main__":
    main()
