"""How long a test waits for what will happen: long, as the machine may be slow, or busy, or both.

A wait that fails costs this once; one that succeeds costs what it takes. What a test shows must
not depend on it: a speed is measured, not waited for.
"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 180.0


def eventually(what: Callable[[], T]) -> T:
    """The first true value of ``what()``."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {PATIENCE_S:.0f} s")
