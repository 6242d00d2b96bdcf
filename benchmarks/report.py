"""`docs/benchmarks.md` and its plot, made from the published figures and from nothing else."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.registry import SECTIONS
from benchmarks.results import Published, met

HEAD = """# Benchmarks

Written by `make bench`; `docs/benchmarks.json` has the same figures. Random weights of true size
(speed does not depend on their values), the same for both sides; in each comparison both run in one
process, taking turns, and medians over the rounds count. *Ratio* is how many times better than the
peer; *of limit* compares with what the machine reads or computes at best, measured in turn with the
row's own rounds, since memory is quick and slow by turns on a machine that is shared. Rows that
skip work (closed gates) are compared with all of it. The forms: bf12 is bf16 in 12 bits a weight,
and nothing is lost; the peer has bf16.
A dagger marks a figure of an earlier run: see its date. What a row means in detail, and how it is
measured, stands in the modules of `benchmarks/`.
"""


def markdown(rows: Published) -> str:
    """The whole document."""
    parts = [HEAD, _machines(rows.values())]
    for title, measurements in SECTIONS:
        lines = [
            _line(row.title, rows[row.name])
            for measurement in measurements
            for row in measurement.rows
        ]
        parts.append(f"## {title}\n\n{_table(lines)}")
    parts += ["![Ratios and targets](benchmarks.png)\n", _details(rows), _profiles(rows)]
    return "\n".join(part for part in parts if part)


def _machines(rows: Iterable[Mapping[str, Any]]) -> str:
    """What was measured where, newest first."""
    seen = {(row["date"], row["limits"]): None for row in rows if row.get("date")}
    return "\n".join(f"- {date}: {limits}" for date, limits in sorted(seen, reverse=True)) + "\n"


def _table(lines: list[str]) -> str:
    head = "| | ours | peer | ratio | target | of limit | met | date |"
    return "\n".join([head, "|---|---|---|---|---|---|---|---|", *lines]) + "\n"


def _line(title: str, row: Mapping[str, Any]) -> str:
    if row["dragoman"] is None:
        reason = row.get("missed", "not measured yet")
        return f"| {title} | | {row['peer']} | | {_number(row['target'])} | | | {reason} |"
    peer = row.get(row["peer"])
    verdict = {True: "yes", False: "no", None: ""}[met(row)]
    limit = "" if row["limit_fraction"] is None else f"{row['limit_fraction']:.0%}"
    if row.get("limit_target"):
        limit += f" (target {row['limit_target']:.0%})"
    mark = "" if row["this_run"] else " †"
    quick = ", quick" if row.get("quick") else ""
    cells = (
        title,
        f"{_number(row['dragoman'])} {row['unit']}",
        f"{row['peer']}: {_number(peer)}" if peer is not None else "",
        _number(row["ratio"]),
        _number(row["target"]),
        limit,
        verdict,
        f"{row['date']}{quick}{mark}",
    )
    return "| " + " | ".join(cells) + " |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _details(rows: Published) -> str:
    """What was counted beside the figures."""
    lines = []
    for name, row in rows.items():
        shown = {k: v for k, v in row.get("detail", {}).items() if k != "profile"}
        notes = [row["note"]] if row.get("note") else []
        if row["dragoman"] is not None and row.get("missed"):
            notes.append(f"not measured again: {row['missed']}")
        facts = [f"{key.replace('_', ' ')} {_shown(value)}" for key, value in shown.items()]
        if notes or facts:
            lines.append(f"- `{name}`: {'; '.join([*notes, *facts])}")
    return "## Beside the figures\n\n" + "\n".join(lines) + "\n" if lines else ""


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{k}: {_shown(v)}" for k, v in value.items()) + ")"
    return str(value)


def _profiles(rows: Published) -> str:
    """Where the time goes, by operation."""
    parts = []
    for name, row in rows.items():
        found = row.get("detail", {}).get("profile")
        if found:
            shares = ", ".join(f"{op} {share:.0%} ({count}x)" for op, share, count in found)
            parts.append(f"- `{name}`: {shares}")
    if not parts:
        return ""
    head = "Shares among the operations of torch; products by our own code are none of them."
    return f"## Where our time goes\n\n{head}\n\n" + "\n".join(parts) + "\n"


def plot(rows: Published, path: Path) -> bool:
    """Bars of all ratios with their targets; False without matplotlib."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = {name: row for name, row in rows.items() if row["ratio"] is not None}
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.32 * max(1, len(shown))))
    colours = {True: "#3a7d44", False: "#c8553d", None: "#7a8b99"}
    names = list(reversed(shown))
    for place, name in enumerate(names):
        row = shown[name]
        axes.barh(place, row["ratio"], color=colours[met(row)], height=0.7)
        if row["target"] is not None:
            axes.plot([row["target"]] * 2, [place - 0.45, place + 0.45], color="black", lw=2)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xscale("log")
    axes.axvline(1, color="grey", lw=0.8)
    axes.set_xlabel("times better than the peer; the black mark is the target")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True
