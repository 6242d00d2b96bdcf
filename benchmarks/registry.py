"""All measurements, in the order in which they run, and all rows, in the order of the table.

Memory comes first, before this process maps any weights; then one checkpoint after the other, and
the forms of one model in turn, because each change of form reads weights anew.
"""

from benchmarks import (
    answers,
    apart,
    crowd,
    encoding,
    gpu_rows,
    llama,
    memory,
    realtime,
    serve,
    text,
    updates,
)
from benchmarks.ours import FORMS
from benchmarks.rows import Measurement, Row

_BY_FORM = (
    text.PREFILL,
    text.DECODE,
    llama.MEASUREMENTS,
    answers.MEASUREMENTS,
    realtime.MEASUREMENTS,
    realtime.LONG_MEASUREMENTS,
    apart.MEASUREMENTS,
)


def _of(form: str) -> tuple[Measurement, ...]:
    """What is measured of E2B in one form."""
    return tuple(measurements[form] for measurements in _BY_FORM if form in measurements)


MEASUREMENTS: tuple[Measurement, ...] = (
    *updates.MEASUREMENTS,
    *crowd.MEASUREMENTS,
    *serve.MEASUREMENTS,
    *memory.MEASUREMENTS,
    *encoding.MEASUREMENTS,
    *(measurement for form in FORMS for measurement in _of(form)),
    *text.LARGE,
    *gpu_rows.MEASUREMENTS,
)

SECTIONS: tuple[tuple[str, tuple[Measurement, ...]], ...] = (
    ("Prompts", (*text.PREFILL.values(), text.LARGE[0])),
    ("Decoding", (*text.DECODE.values(), text.LARGE[1])),
    ("Against llama.cpp", tuple(llama.MEASUREMENTS.values())),
    ("End of speech", tuple(answers.MEASUREMENTS.values())),
    ("Audio encoder", encoding.MEASUREMENTS),
    (
        "Live",
        (
            *updates.MEASUREMENTS,
            *realtime.MEASUREMENTS.values(),
            *realtime.LONG_MEASUREMENTS.values(),
            *apart.MEASUREMENTS.values(),
            *crowd.MEASUREMENTS,
        ),
    ),
    ("Serving", serve.MEASUREMENTS),
    ("Memory and start", memory.MEASUREMENTS),
    ("On a GPU", gpu_rows.MEASUREMENTS),
)


def rows() -> dict[str, Row]:
    """All rows by name, in the order of the table."""
    return {
        row.name: row
        for _, measurements in SECTIONS
        for measurement in measurements
        for row in measurement.rows
    }


def select(names: list[str], quick: bool) -> tuple[Measurement, ...]:
    """Those wanted: by the name of a measurement or of one of its rows; all, for no names.

    Raises ValueError for a name that nothing has.
    """
    if not names:
        return tuple(m for m in MEASUREMENTS if not (quick and m.heavy))
    known = {name for m in MEASUREMENTS for name in (m.name, *(row.name for row in m.rows))}
    if unknown := set(names) - known:
        raise ValueError(
            f"no measurement or row {', '.join(sorted(unknown))}: --list shows the names"
        )
    return tuple(m for m in MEASUREMENTS if {m.name, *(row.name for row in m.rows)} & set(names))
