"""Stdout for what was asked for: events, captions, paths, one JSON document; in any encoding.

Used by the commands whose output others read, or draw a screen with. What is unusual: Ray tells of
actors that died on the driver's stdout, whatever `log_to_driver` says, at any moment until it has
been shut down. Who has lost something by it says so in words of its own.
"""

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TextIO

_ESCAPES = "dragoman.json-escapes"


def escape_what_cannot_be_encoded() -> None:
    """Lets stdout and stderr write letters that their encoding lacks as JSON writes them, \\u00e9:
    events stay valid JSON, and an accent in an ASCII locale ends no session.
    """
    codecs.register_error(_ESCAPES, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPES)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in pairs), error.end


@contextmanager
def own_stdout() -> Iterator[TextIO]:
    """Yields stdout; what is printed inside by anyone who was not handed it goes nowhere."""
    out = sys.stdout
    with (
        open(os.devnull, "w", encoding="utf-8", errors="replace") as nowhere,
        redirect_stdout(nowhere),
    ):
        yield out
