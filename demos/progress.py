"""How a batch is shown while it runs: bars on a terminal, lines elsewhere, or output paths alone.

The bars show the files that are being worked on, and all of it: files, time left, and the real-time
factor (time of work for each second of audio; what an earlier run had done does not count).
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from dragoman.demos.stdout import printable, say
from dragoman.demos.terminal import clock
from dragoman.pipeline.batch_file import Advanced, Result
from dragoman.stages.messages import SAMPLE_RATE_HZ


class BatchView:
    """Shows nothing: the base of all views, a context manager, open while the batch runs."""

    def __enter__(self) -> "BatchView":
        return self

    def __exit__(self, kind, error, trace) -> None:
        pass

    def start(self, to_do: Sequence[tuple[Path, float | None]]) -> None:
        """The files to work on, and how long they are; the model is being loaded now."""

    def planned(self, to_do: Sequence[tuple[Path, float | None]]) -> None:
        """The files that a dry run would work on."""

    def ready(self, workers: int) -> None:
        """The model is loaded."""

    def advance(self, event: Advanced) -> None:
        """A file got on."""

    def show(self, result: Result) -> None:
        """A file is finished with."""


class Paths(BatchView):
    """The path of every output that is there, one a line."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, result: Result) -> None:
        for path in result.outputs:
            print(printable(path) if self._out.isatty() else path, file=self._out, flush=True)


class Lines(BatchView):
    """A line for each file, for logs and pipes."""

    def __init__(self, out: TextIO, files: int) -> None:
        self._out, self._files, self._shown = out, files, 0

    def show(self, result: Result) -> None:
        self._shown += 1
        say(f"[{self._shown}/{self._files}] {line(result)}", self._out)

    def planned(self, to_do: Sequence[tuple[Path, float | None]]) -> None:
        say(plan(to_do), self._out)


class Bars(BatchView):
    """A bar for each file under way, and one for all."""

    def __init__(self, console: Console, files: int, with_lines: bool) -> None:
        self._files, self._ended, self._with_lines = files, 0, with_lines
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._begin = 0.0
        self._durations: dict[Path, float | None] = {}
        self._until: dict[Path, float] = {}
        self._worked: dict[Path, float] = {}
        self._bars: dict[Path, TaskID] = {}
        self._total = self._progress.add_task("", total=None, visible=False, note="")

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._progress.stop()

    def start(self, to_do: Sequence[tuple[Path, float | None]]) -> None:
        self._durations = dict(to_do)
        self._show_total("loading the model")

    def planned(self, to_do: Sequence[tuple[Path, float | None]]) -> None:
        if self._with_lines:
            self._progress.console.print(printable(plan(to_do)), markup=False, highlight=False)

    def ready(self, workers: int) -> None:
        self._begin = time.monotonic()
        self._show_total(f"{workers} workers")

    def advance(self, event: Advanced) -> None:
        if event.path not in self._bars:
            self._bars[event.path] = self._progress.add_task(
                printable(event.path.name), total=event.duration_s, note=""
            )
        self._until[event.path] = event.until_s
        self._worked[event.path] = event.worked_s
        note = _clock(event.until_s)
        self._progress.update(self._bars[event.path], completed=event.until_s, note=note)
        self._show_total(self._speed())

    def show(self, result: Result) -> None:
        self._ended += 1
        if result.path in self._durations:
            # Headers may be wrong; what was there has been heard.
            self._durations[result.path] = self._until[result.path] = result.duration_s
        if result.path in self._bars:
            self._progress.remove_task(self._bars.pop(result.path))
        if self._with_lines:
            self._progress.console.print(printable(line(result)), markup=False, highlight=False)
        self._show_total(self._speed())

    def _speed(self) -> str:
        """Time left and real-time factor, once there is something to tell them from."""
        worked = sum(self._worked.values())
        if not worked:
            return ""
        factor = (time.monotonic() - self._begin) / worked
        known = [d for d in self._durations.values() if d is not None]
        left = max(0.0, sum(known) - sum(self._until.values()))
        more = "" if len(known) == len(self._durations) else " at least"
        return f"ETA{more} {_clock(left * factor)}  RTF {factor:.2f}"

    def _show_total(self, note: str) -> None:
        total = sum(d or 0.0 for d in self._durations.values())
        self._progress.update(
            self._total,
            description=f"{self._ended}/{self._files} files",
            total=total or None,
            completed=sum(self._until.values()),
            visible=True,
            note=note,
        )


def view(*, as_json: bool, quiet: bool, files: int) -> BatchView:
    """The view that fits what was asked for and where stdout goes, as it is now."""
    if quiet:
        return Paths(sys.stdout)
    if as_json:
        errors = Console(stderr=True)
        return Bars(errors, files, with_lines=False) if errors.is_terminal else BatchView()
    console = Console(file=sys.stdout, highlight=False)
    return (
        Bars(console, files, with_lines=True) if console.is_terminal else Lines(sys.stdout, files)
    )


def plan(to_do: Sequence[tuple[Path, float | None]]) -> str:
    """What a dry run says: the files, and how long they are together."""
    lines = [f"to do    {path} ({'?' if s is None else _clock(s)})" for path, s in to_do]
    known = [seconds for _, seconds in to_do if seconds is not None]
    more = "" if len(known) == len(to_do) else "at least "
    total = f"{_count(len(to_do), 'file')}, {more}{_clock(sum(known))} of sound"
    return "\n".join([*lines, total])


def line(result: Result) -> str:
    """What came of one input, in a line."""
    if result.status == "failed":
        return f"failed   {result.path}"
    if result.status == "skipped":
        return f"skipped  {result.path}: {result.reason}"
    parts = [f"{_clock(result.duration_s)}, {_count(result.segments, 'segment')}"]
    if result.kept:
        parts.append(f"{result.kept} from an earlier run")
    parts += [part for part in (result.reason, *result.warnings) if part]
    folder, outputs = result.outputs[0].parent, len(result.outputs)
    return f"done     {result.path} ({'; '.join(parts)}) -> {_count(outputs, 'file')} in {folder}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _clock(seconds: float) -> str:
    return clock(round(seconds * SAMPLE_RATE_HZ))
