"""A GPU against the CPU and against transformers, in one run: `python -m benchmarks.gpu`.

For a machine that is at hand for minutes: torch, transformers and timm are all it needs (no Ray, no
FFmpeg, no Gradio), and of our side a checkout. First every part of a small model is compared with
the CPU, then a random E2B, made on the card, is measured. What was found is written after each, so
that a run cut short loses nothing.

    python -m benchmarks.gpu --publish gpu.json    # elsewhere: the rows into docs/benchmarks.md

`--device cpu --size tiny` is the rehearsal.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import gpu_checks, gpu_models, gpu_rows, machine, results
from benchmarks.checkpoint import FOLDERS, SIZES, ensure
from benchmarks.room import whole


def run(device: str, size: str, out: Path, seconds: float) -> bool:
    """Checks, then rows; whether all checks are fine and all rows could be measured."""
    begun, small = time.monotonic(), size == "tiny"
    print("the code of the GPU's part was never run on a GPU by those who wrote it", flush=True)
    found: dict[str, Any] = {"checks": [], "rows": {}, "missed": {}, "seconds": {}}

    def note(what: str) -> None:
        found["seconds"][what] = round(time.monotonic() - begun, 1)
        _write(out, found)

    def check_parts(names: Iterable[str]) -> None:
        folder = ensure(SIZES["tiny"], FOLDERS / "tiny")
        for check in gpu_checks.checks(folder, device, names):
            found["checks"].append({**asdict(check), "fine": check.fine})
            note(check.name)
            said = check.error or f"{check.difference:.1e} of {gpu_checks.ALLOWED:.0e} allowed"
            print(f"{check.name:28} {'ok' if check.fine else 'WRONG'}  {said}", flush=True)

    check_parts(gpu_checks.FIRST)
    here = machine.measure(device, 0.01 if small else 1.0)
    found["machine"] = here.describe()
    print(here.describe(), flush=True)
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    stamp = results.Stamp(today, here.short, here.describe(), quick=True)
    card = gpu_models.made(SIZES[size], device, small)
    for result in gpu_rows.measured(card, begun + seconds):
        name = result.row.name
        if isinstance(result, gpu_rows.Missed):
            found["missed"][name] = result.reason
            print(f"{name:28} not measured: {result.reason}", flush=True)
        else:
            found["rows"][name] = row = results.published(result, stamp)
            print(f"{name:28} {row['dragoman']} {row['unit']}, "
                  f"{row['peer']} {row[row['peer']]}", flush=True)  # fmt: skip
        note(name)
    check_parts(gpu_checks.LAST)
    return not found["missed"] and all(check["fine"] for check in found["checks"])


def publish(file: Path, docs: Path) -> None:
    """Puts the rows of a run among the published figures, which stay as they are. Raises ValueError
    for a file without rows of ours.
    """
    from benchmarks.__main__ import publish as publish_rows
    from benchmarks.registry import rows

    of_run = json.loads(file.read_text(encoding="utf-8"))["rows"]
    known = {row.name for row in gpu_rows.ROWS}
    if not of_run or not set(of_run) <= known:
        raise ValueError(f"{file} has the rows {sorted(of_run)}, expected some of {sorted(known)}")
    before = results.read(docs / "benchmarks.json")
    lacking = {name: results.unmeasured(row) | {"this_run": False} for name, row in rows().items()}
    publish_rows({**lacking, **before, **of_run}, docs)


def _write(out: Path, found: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole(out) as half:
        half.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--size", choices=("E2B", "E4B", "tiny"), default="E2B")
    parser.add_argument("--out", type=Path, default=Path("build/gpu.json"))
    parser.add_argument("--seconds", type=float, default=400, help="no row begins later than that")
    parser.add_argument("--publish", type=Path, metavar="FILE", help="of an earlier run")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args(argv)
    if args.publish:
        publish(args.publish, args.docs)
    elif not run(args.device, args.size, args.out, args.seconds):
        sys.exit(1)


if __name__ == "__main__":
    main()
