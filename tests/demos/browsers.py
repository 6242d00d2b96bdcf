"""What the tests of the page share."""

import time

from tests.pipeline.chains import in_process
from tests.pipeline.fake_stages import fakes


def eventually(what, within_s: float = 20.0):
    """The first true value of ``what()``."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {within_s} s")


def fake_chain():
    """A chain in this process that says a word a chunk."""
    chain = in_process(fakes())
    yield chain
    chain.stop()
