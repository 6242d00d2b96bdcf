"""Valid bytes, JSON and text with damage in them, and what no damage may do to a reader.

`FUZZ=10000` in the environment (`make fuzz`) tries so many cases of each kind; else there are few.
"""

import contextlib
import copy
import faulthandler
import json
import os
import resource
import time
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

CASES = int(os.environ.get("FUZZ", "60"))
MOST_S = 10.0  # of processor time for one case
HUNG_S = 250  # of waiting for one case: then all traces are printed and the run ends
MOST_GROWTH = 600 * 2**20  # bytes that a whole test may take more
HEAD = 600  # bytes in which most damage is done

many = settings(
    max_examples=CASES,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

_NUMBERS = [0, 1, 2, 3, 7, 255, 2**15 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63]
_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 0.5, -0.0, 1e308, float("inf"), float("nan"), 2**31, 2**63,
    2**70, "", "x", "float32", "../../etc/passwd", "\0", "é" * 300, [], [0], [[]], [None] * 3, {},
    {"": 0}, {"a": {"b": []}},
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, wholes: Sequence[bytes]) -> bytes:
    """One of ``wholes`` with one to six places changed, most of them near the beginning."""
    data = bytearray(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.integers(1, 6))):
        end = len(data) if draw(st.booleans()) else min(HEAD, len(data))
        at = draw(st.integers(0, end))
        width = draw(st.sampled_from((1, 2, 4, 8)))
        kind = draw(st.sampled_from(("number", "flip", "cut", "lose", "twice", "noise")))
        if kind == "number":
            number = draw(st.sampled_from(_NUMBERS)) % 256**width
            data[at : at + width] = number.to_bytes(width, draw(st.sampled_from(("little", "big"))))
        elif kind == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at:]
        elif kind == "lose":
            del data[at : at + draw(st.integers(1, 64))]
        elif kind == "twice":
            data[at:at] = data[at : at + draw(st.integers(1, 64))]
        else:
            data[at:at] = draw(st.binary(min_size=1, max_size=32))
    return bytes(data)


@st.composite
def damaged_json(draw: st.DrawFn, whole: dict[str, Any], under: tuple[str, ...] = ()) -> str:
    """JSON of ``whole`` with one to four values changed, lost or moved to another name.

    ``under``: only below these keys of it.
    """
    told = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 4))):
        holder: Any = told
        for key in (*under, None):
            if key is not None:
                holder = holder[key]
                continue
            while True:
                keys = list(holder) if isinstance(holder, dict) else range(len(holder))
                if not keys:
                    break
                at = draw(st.sampled_from(keys))
                if isinstance(holder[at], dict | list) and holder[at] and draw(st.integers(0, 3)):
                    holder = holder[at]
                    continue
                _damage(draw, holder, at)
                break
    return json.dumps(told)


def _damage(draw: st.DrawFn, holder: Any, at: Any) -> None:
    kind = draw(st.sampled_from(("other", "other", "other", "lost", "near")))
    if kind == "lost":
        del holder[at]
    elif kind == "near" and isinstance(holder[at], int | float):
        holder[at] = holder[at] * draw(st.sampled_from((-1, 0, 2, 10, 0.5, 1_000_000)))
    elif kind == "near" and isinstance(holder, dict):
        holder[str(at) + draw(st.sampled_from(("s", " ", "_")))] = holder.pop(at)
    else:
        holder[at] = copy.deepcopy(draw(st.sampled_from(_VALUES)))


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """A case that ends within MOST_S, and if it hangs says where."""
    faulthandler.dump_traceback_later(HUNG_S, exit=True)
    begun = time.process_time()
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
    assert time.process_time() - begun < MOST_S


@contextlib.contextmanager
def frugal() -> Iterator[None]:
    """All cases of a test together leave the process about as large as it was."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1_024
    assert grown < MOST_GROWTH
