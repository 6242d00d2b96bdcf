"""All measurements, in the order in which they run, and all rows, in the order of the table.

Memory comes first, before this process maps any weights; then one checkpoint after the other, and
the forms of one model in turn, because each change of form reads weights anew.
"""

from benchmarks import answers, apart, crowd, encoding, llama, memory, realtime, text, updates
from benchmarks.rows import Measurement, Row

_PREFILL, _BF16, _INT8, _INT4 = text.MEASUREMENTS

MEASUREMENTS: tuple[Measurement, ...] = (
    *updates.MEASUREMENTS,
    *crowd.MEASUREMENTS,
    *memory.MEASUREMENTS,
    *encoding.MEASUREMENTS,
    _PREFILL,
    _BF16,
    llama.MEASUREMENTS["bf16"],
    *answers.MEASUREMENTS,
    realtime.MEASUREMENTS["bf16"],
    _INT8,
    llama.MEASUREMENTS["int8"],
    realtime.MEASUREMENTS["int8"],
    *apart.MEASUREMENTS,
    _INT4,
    llama.MEASUREMENTS["int4"],
    realtime.MEASUREMENTS["int4"],
    *text.LARGE,
)

GROUPS: tuple[tuple[str, tuple[Measurement, ...]], ...] = (
    ("Prompts", (_PREFILL, text.LARGE[0])),
    ("Decoding", (_BF16, _INT8, _INT4, text.LARGE[1])),
    ("Against llama.cpp", tuple(llama.MEASUREMENTS.values())),
    ("End of speech", answers.MEASUREMENTS),
    ("Audio encoder", encoding.MEASUREMENTS),
    (
        "Live",
        (
            *updates.MEASUREMENTS,
            *realtime.MEASUREMENTS.values(),
            *apart.MEASUREMENTS,
            *crowd.MEASUREMENTS,
        ),
    ),
    ("Memory and start", memory.MEASUREMENTS),
)


def rows() -> dict[str, Row]:
    """All rows by name, in the order of the table."""
    return {
        row.name: row
        for _, measurements in GROUPS
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
