"""The commands and programs that pages of `docs/` show, for tests that run them as they stand."""

import re
import shlex
from pathlib import Path

import typer

from dragoman.demos import cli

ROOT = Path(__file__).resolve().parents[1]


def text(page: str) -> str:
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


def lines(page: str, program: str) -> list[str]:
    """The indented lines that call ``program``, settings of the environment before it included."""
    found = re.findall(r"^ {4}((?:[A-Z_]+=\S+ )*(\S+) .*|(\S+))$", text(page), re.MULTILINE)
    return [line for line, first, alone in found if program in (first, alone)]


def commands(page: str) -> list[list[str]]:
    """The arguments of each `dragoman` of the page, without comments."""
    return [_words(line) for line in lines(page, "dragoman")]


def programs(page: str) -> list[str]:
    """The Python programs in fences, in order."""
    return re.findall(r"^```python\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)


def check(command: list[str]) -> None:
    """Raises click's UsageError for options that the command does not know or take."""
    group = typer.main.get_command(cli.app)
    group.make_context("dragoman", list(command), resilient_parsing=False)
    named = group.commands[command[0]]  # type: ignore[attr-defined]
    named.make_context(command[0], command[1:])


def _words(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    return words[words.index("dragoman") + 1 :]
