"""Stdout for what was asked for: events, captions, paths, one JSON document; in any encoding.

Used by the commands whose output others read, or draw a screen with. What is unusual: Ray tells of
actors that died on the driver's stdout, whatever `log_to_driver` says, at any moment until it has
been shut down. Who has lost something by it says so in words of its own.
"""

import codecs
import io
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TextIO

_ESCAPES = "dragoman.json-escapes"
# C0 and C1 but for tab and newline, and what turns the direction of a line's letters.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    """``text`` with its control codes spelt out, \\x1b: names of files, and what files and devices
    say of themselves, come from others, and a terminal would obey them.
    """
    return _CONTROL.sub(lambda found: _spelt(ord(found[0])), str(text))


def _spelt(code: int) -> str:
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def say(text: object, file: TextIO | None = None) -> None:
    """Prints ``text`` for people, on stderr unless there is another ``file``."""
    print(printable(text), file=file or sys.stderr, flush=True)


class PrintableFormatter(logging.Formatter):
    """Lines of a log for people."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


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
