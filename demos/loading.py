"""The bar on stderr while a large model is read; for :mod:`pipeline.start`, on a terminal only."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from dragoman.models import reading


@contextmanager
def bar(name: str) -> Iterator[reading.Progress]:
    """Shows how much of the model ``name`` was read; what it yields is told how many bytes."""
    console = Console(stderr=True)
    columns = (TextColumn("reading {task.description}"), BarColumn(30), DownloadColumn())
    with Progress(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
