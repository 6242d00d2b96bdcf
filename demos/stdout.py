"""Stdout for what was asked for: events, captions, paths, one JSON document.

Used by the commands whose output others read, or draw a screen with. What is unusual: Ray tells of
actors that died on the driver's stdout, whatever `log_to_driver` says, at any moment until it has
been shut down. Who has lost something by it says so in words of its own.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TextIO


@contextmanager
def own_stdout() -> Iterator[TextIO]:
    """Yields stdout; what is printed inside by anyone who was not handed it goes nowhere."""
    out = sys.stdout
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield out
