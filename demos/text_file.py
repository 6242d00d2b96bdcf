"""Keeps the last lines of the captions in a file, for streaming software that shows a file's text.

Beside the view of a live session. What is unusual: the file is replaced, never written into, so
that whoever reads it sees the lines of one moment; and it is empty before and after the session,
so that nothing old stays on the air.
"""

import os
from collections.abc import Callable
from pathlib import Path

from dragoman.demos.choice import Choice
from dragoman.errors import InputError
from dragoman.models.words import columns, spaced_words
from dragoman.stages.messages import Caption

LINES, LINE_COLUMNS = 2, 42


class TextFile:
    """The last lines of what ``choice`` takes of captions, in the file at ``path``; a context.

    Opening raises InputError where it cannot be written. Where that fails later ``warn`` is told
    why, once, until it succeeds again.
    """

    def __init__(self, path: Path, choice: Choice, warn: Callable[[str], None]) -> None:
        self._path, self._choice, self._warn = path, choice, warn
        self._new = path.with_name(f".{path.name}.{os.getpid()}.new")
        self._written: str | None = None
        self._finished: list[str] = []
        self._failed = False
        try:
            self._write("")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from error

    def __enter__(self) -> "TextFile":
        return self

    def __exit__(self, *error: object) -> None:
        self._put([])

    def show(self, caption: Caption) -> None:
        """Takes in the next caption of the session."""
        now = wrapped(self._choice.text(caption).whole, LINE_COLUMNS)
        self._put([*self._finished, *now][-LINES:])
        if caption.kind == "final" and now:
            self._finished = now[-LINES:]

    def _put(self, lines: list[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        if text == self._written:
            return
        try:
            self._write(text)
            self._failed = False
        except OSError as error:
            if not self._failed:
                self._warn(f"cannot write {self._path}: {error.strerror or error}")
            self._failed = True

    def _write(self, text: str) -> None:
        self._new.write_text(text, encoding="utf-8")
        self._new.replace(self._path)
        self._written = text


def wrapped(text: str, width: int) -> list[str]:
    """``text`` in lines of ``width`` columns at most, but for words that are wider."""
    lines: list[str] = []
    for word in spaced_words(text):
        if lines and columns((lines[-1] + word).rstrip()) <= width:
            lines[-1] += word
        else:
            lines.append(word)
    return [line.strip() for line in lines]
