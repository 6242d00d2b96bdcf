"""`python -m benchmarks`: measures, prints, and writes what `docs/` publishes."""

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine, registry, report, results
from benchmarks.context import Bench
from benchmarks.rows import Measurement, Result, Unavailable


def main() -> None:
    args = _arguments()
    if args.list:
        for measurement in registry.MEASUREMENTS:
            print(f"{measurement.name}: {', '.join(row.name for row in measurement.rows)}")
        return
    try:
        wanted = registry.select(args.only, args.quick)
        results.read(args.out / "benchmarks.json")
    except ValueError as error:
        sys.exit(f"benchmarks: {error}")
    clean_up_when_ended()
    found = machine.measure(args.device)
    print(found.describe(), flush=True)
    if not run(Bench(found, quick=args.quick, corpus=args.corpus), wanted, args.out):
        sys.exit(1)


def clean_up_when_ended() -> None:
    """Lets SIGTERM end what was begun: processes, and files that are half written."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def run(bench: Bench, wanted: Iterable[Measurement], out: Path) -> bool:
    """Measures and publishes after each measurement, so that a run cut short loses nothing.

    False when a measurement failed; one that is unavailable here is no failure.
    """
    stamp = results.Stamp(
        datetime.now(UTC).strftime("%Y-%m-%d"),
        bench.machine.short,
        bench.machine.describe(),
        bench.quick,
    )
    before = results.read(out / "benchmarks.json")
    done: list[Result] = []
    missed: dict[str, str] = {}
    fine = True
    for measurement in wanted:
        begun, seen = time.monotonic(), len(done)
        try:
            for result in measurement.run(bench):
                done.append(result)
                print(_line(result), flush=True)
        except Unavailable as reason:
            _miss(measurement, str(reason), done[seen:], missed)
        except Exception as error:
            traceback.print_exc()
            _miss(measurement, f"failed: {error}", done[seen:], missed)
            fine = False
        print(f"  ({measurement.name}: {time.monotonic() - begun:.0f} s)", flush=True)
        publish(results.merge(before, registry.rows(), done, missed, stamp), out)
    bench.release()
    return fine


def publish(rows: results.Published, out: Path) -> None:
    """Writes the figures, the document and the plot into ``out``."""
    results.write(out / "benchmarks.json", rows)
    (out / "benchmarks.md").write_text(report.markdown(rows), encoding="utf-8")
    if not report.plot(rows, out / "benchmarks.png"):
        print("  (no plot: matplotlib is not installed)")


def _miss(measurement: Measurement, reason: str, got: list[Result], missed: dict[str, str]) -> None:
    reached = {result.row.name for result in got}
    for row in measurement.rows:
        if row.name not in reached:
            missed[row.name] = reason
            print(f"{row.name:32} not measured: {reason}", flush=True)


def _line(result: Result) -> str:
    row, ratio, limit = result.row, result.ratio, result.limit_fraction
    parts = [f"{row.name:32} {result.ours:10.4g} {row.unit}"]
    if result.theirs is not None:
        parts.append(f"{row.peer} {result.theirs:.4g}")
    if ratio is not None:
        target = result.target or row.target
        parts.append(f"{ratio:.2f}x" + (f" (target {target:g}x)" if target else ""))
    if limit is not None:
        parts.append(f"{limit:.0%} of the limit")
    return ", ".join(parts)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no E4B")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="repeatable")
    parser.add_argument("--list", action="store_true", help="names of measurements and rows")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="where results are written")
    parser.add_argument("--corpus", type=Path, default=Path("build/bench"), help="speech for nano")
    return parser.parse_args()


if __name__ == "__main__":
    main()
