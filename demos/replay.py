"""`dragoman replay`: its options. What it does is :mod:`demos.replaying`, imported when it is asked
for, so that `--help` answers at once.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from dragoman.demos import options


def replay(
    log: Annotated[
        Path, typer.Argument(help="What `dragoman captions --json` printed, or --log wrote.")
    ],
    pace: Annotated[
        Literal["real-time", "fast"], typer.Option(help="As it was, or all at once.")
    ] = "real-time",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the events again, in their time.")
    ] = False,
    debug: options.Debug = False,
) -> int:
    """Show a session of captions again, from its log."""
    options.log_to_stderr(debug)
    from dragoman.demos.replaying import run

    return run(log, pace, as_json)
