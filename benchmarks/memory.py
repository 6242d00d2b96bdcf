"""Memory and time to the first token of a fresh process, ours and transformers'.

Every figure is of a process of its own (`benchmarks.probe`), which listens to two seconds of sound
with text and audio, answers, and reports what the kernel says of it. Unusual: weights are mapped
from files, so what counts as resident is what was touched; before each process the files are put
out of the page cache, so that it starts as cold as it would after a reboot. The very first process
of a machine takes a second or two longer: it makes the kernels that `kernels.objects` then keeps.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.context import Bench
from benchmarks.machine import forget_files
from benchmarks.ours import FORMS, SMALL_HEAD
from benchmarks.rows import Measurement, Result, Row, Unavailable

TIMEOUT_S = 600
AT_MOST_GB = {"bf16": 6.5, "bf12": 6.5, "int8": 4.0, "int4": 3.0}
AUDIO = ("int8", "int4")  # forms in which the audio tower may be int8, too
PEAK = 1.10  # of the final size, while loading


def _rows(form: str) -> tuple[Row, Row, Row]:
    memory = Row(
        f"memory_{form}",
        f"resident memory, live text and audio, E2B, {form}: at most {AT_MOST_GB[form]} GB",
        "GB",
        higher=False,
    )
    peak = Row(
        f"load_peak_{form}",
        f"peak while loading, E2B, {form}, against the final size",
        "GB",
        higher=False,
        peer="final size",
        target=round(1 / PEAK, 3),
    )
    cold = Row(
        f"cold_start_{form}",
        f"start of a process to first token, files not in memory, E2B, {form}",
        "s",
        higher=False,
    )
    return memory, peak, cold


ROWS = {form: _rows(form) for form in FORMS}
AUDIO_ROWS = {
    form: Row(
        f"memory_{form}_audio_int8",
        f"resident memory, live text and audio, E2B, {form}, audio tower in int8 as well",
        "GB",
        higher=False,
    )
    for form in AUDIO
}

HEAD_ROW = Row(
    "memory_int8_head_int4",
    "resident memory, live text and audio, E2B, int8 with an int4 head: at most "
    f"{AT_MOST_GB['int8']} GB",
    "GB",
    higher=False,
)


def memory(bench: Bench, form: str) -> Iterable[Result]:
    """Our process in ``form`` and transformers' in bf16, one after the other."""
    folder = bench.folder("E2B")
    bench.release()  # pages that this process maps would stay in memory
    ours = probe(bench.folder("E2B", form), "dragoman", bench.device)
    theirs = _peer(folder, bench.device)
    memory_row, peak_row, cold_row = ROWS[form]
    gb = {name: found["resident"] / 1e9 for name, found in (("ours", ours), ("theirs", theirs))}
    detail = {"dragoman": _in_gb(ours), "transformers": _in_gb(theirs)}
    target = round(gb["theirs"] / AT_MOST_GB[form], 3)
    yield Result(memory_row, gb["ours"], gb["theirs"], target=target, detail=detail)
    yield Result(peak_row, ours["peak"] / 1e9, gb["ours"])
    yield Result(cold_row, ours["first_token_s"], theirs["first_token_s"])


def memory_with_audio(bench: Bench, form: str) -> Iterable[Result]:
    """The same with a quantized audio tower, for which there is no target."""
    folder = bench.folder("E2B")
    bench.release()
    ours = probe(bench.folder("E2B", form), "dragoman+audio", bench.device)
    theirs = _peer(folder, bench.device)
    yield Result(
        AUDIO_ROWS[form],
        ours["resident"] / 1e9,
        theirs["resident"] / 1e9,
        detail={"dragoman": _in_gb(ours), "transformers": _in_gb(theirs)},
    )


def memory_with_small_head(bench: Bench) -> Iterable[Result]:
    """The same with the output head in int4; nobody else wants its folder, so it goes."""
    original, folder = bench.folder("E2B"), bench.folder("E2B", SMALL_HEAD)
    bench.release()
    try:
        ours = probe(folder, "dragoman", bench.device)
    finally:
        shutil.rmtree(folder)
    theirs = _peer(original, bench.device)
    target = round(theirs["resident"] / 1e9 / AT_MOST_GB["int8"], 3)
    yield Result(
        HEAD_ROW,
        ours["resident"] / 1e9,
        theirs["resident"] / 1e9,
        target=target,
        detail={"dragoman": _in_gb(ours), "transformers": _in_gb(theirs)},
    )


def probe(folder: Path, side: str, device: str) -> dict[str, Any]:
    """What a fresh process reports: bytes, and seconds from its start to its first token.

    Raises Unavailable with the last line it wrote where it fails.
    """
    forget_files(folder)
    begun = time.monotonic()
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.probe", side, device]
    done = subprocess.run(
        [*command, str(folder), str(begun)],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise Unavailable(f"the process of {side} failed: {lines[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


_seen: dict[tuple[str, str], dict[str, Any]] = {}


def _peer(folder: Path, device: str) -> dict[str, Any]:
    """transformers' figures; the same for every form of ours, so measured once a run."""
    key = (str(folder), device)
    if key not in _seen:
        _seen[key] = probe(folder, "transformers", device)
    return _seen[key]


def _in_gb(found: dict[str, Any]) -> dict[str, float]:
    return {name: round(value / 1e9, 2) for name, value in found.items() if name != "first_token_s"}


def _measurement(form: str) -> Measurement:
    return Measurement(f"memory_{form}", ROWS[form], lambda b: memory(b, form))


def _audio_measurement(form: str) -> Measurement:
    row = AUDIO_ROWS[form]
    return Measurement(row.name, (row,), lambda b: memory_with_audio(b, form))


MEASUREMENTS = (
    *(_measurement(form) for form in FORMS),
    *(_audio_measurement(form) for form in AUDIO),
    Measurement(HEAD_ROW.name, (HEAD_ROW,), memory_with_small_head),
)
