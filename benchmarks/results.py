"""The published figures: `docs/benchmarks.json`, a row for every target, whatever was measured.

Every row carries the date and the machine of its own measurement. A run replaces the rows that it
measured and leaves all others as they were, marked as not of this run; a row that could not be
measured keeps its old figures and says why it has no new ones.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.notes import NOTES
from benchmarks.room import whole
from benchmarks.rows import TRANSFORMERS, Result, Row

Published = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Stamp:
    """When and where a run took place."""

    date: str
    machine: str
    limits: str
    quick: bool = False


def read(path: Path) -> Published:
    """What was published before; empty if nothing was. Raises ValueError for a damaged file."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): restore it or delete it") from None
    if not isinstance(found, dict) or not all(isinstance(row, dict) for row in found.values()):
        raise ValueError(f"{path} does not hold rows by name: restore it or delete it")
    return found


def merge(
    before: Published,
    rows: Mapping[str, Row],
    results: Iterable[Result],
    missed: Mapping[str, str],
    stamp: Stamp,
) -> Published:
    """All of ``rows``, new figures where there are ``results``, old ones elsewhere.

    ``missed`` says why rows of this run have no result. Rows that no longer exist are dropped.
    """
    fresh = {result.row.name: published(result, stamp) for result in results}
    merged = {
        name: fresh[name] if name in fresh else _kept(row, before.get(name, {}), missed)
        for name, row in rows.items()
    }
    for name, published_row in merged.items():
        if name in NOTES and met(published_row) is False:
            published_row["note"] = NOTES[name]
    return merged


def _kept(row: Row, before: Mapping[str, Any], missed: Mapping[str, str]) -> dict[str, Any]:
    """A row that has no new figures."""
    kept = {**unmeasured(row), **before, "this_run": False}
    if kept["dragoman"] is not None:
        kept.pop("missed", None)  # that is of the run before
    kept.pop("note", None)
    if row.target is not None:
        kept["target"] = row.target
    if row.name in missed:
        kept["missed"] = missed[row.name]
    return kept


def published(result: Result, stamp: Stamp) -> dict[str, Any]:
    """One measured row as it is written."""
    row = result.row
    target = row.target if result.target is None else result.target
    peers = {TRANSFORMERS: None, row.peer: _rounded(result.theirs)}
    limited = {} if row.limit_target is None else {"limit_target": row.limit_target}
    extra = {"detail": result.detail} if result.detail else {}
    return {
        "dragoman": _rounded(result.ours),
        **peers,
        "ratio": _rounded(result.ratio),
        "limit_fraction": _rounded(result.limit_fraction),
        "target": target,
        **limited,
        "unit": row.unit,
        "peer": row.peer,
        "rounds": result.rounds,
        "quick": stamp.quick,
        "date": stamp.date,
        "machine": stamp.machine,
        "limits": stamp.limits,
        "this_run": True,
        **extra,
    }


def unmeasured(row: Row) -> dict[str, Any]:
    """A row without figures."""
    limited = {} if row.limit_target is None else {"limit_target": row.limit_target}
    return {
        "dragoman": None,
        TRANSFORMERS: None,
        "ratio": None,
        "limit_fraction": None,
        "target": row.target,
        **limited,
        "unit": row.unit,
        "peer": row.peer,
    }


def met(row: Mapping[str, Any]) -> bool | None:
    """Whether a published row meets its target; None where nothing was promised or measured."""
    if row.get("target") is None or row.get("ratio") is None:
        return None
    limit, wanted = row.get("limit_fraction"), row.get("limit_target")
    near = wanted is None or (limit is not None and limit >= wanted)
    return row["ratio"] >= row["target"] and near


def write(path: Path, published_rows: Published) -> None:
    """Writes the file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as half:
        half.write_text(json.dumps(published_rows, indent=1) + "\n", encoding="utf-8")


def _rounded(value: float | None) -> float | None:
    """Four significant digits."""
    return None if value is None else float(f"{value:.4g}")
