"""From what `--model` says to stages that run: found, downloaded, checked, read ahead, started.

All commands that run a model come through here before they start any process. The download and the
reading are shown on stderr, on a terminal only. Unusual: this process reads the weights and keeps
none of them; the processes that map them then find them in memory, and a progress bar needs nobody
to report to it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from dragoman.models import folders, hub, reading

if TYPE_CHECKING:
    from dragoman.pipeline.chain import Chain

READ_BYTES = 2**28  # less is there at once


def start(
    model: str,
    device: str,
    dtype: str,
    threads: int | None,
    address: str | None,
    with_ray: bool,
    bars: bool,
) -> "Chain":
    """The pipeline, as Ray actors or in this process; raises CheckpointError, PipelineError.

    ``bars`` allows progress bars.
    """
    from dragoman.pipeline.chain import look_recipe, recipes

    folder = locate(model, address, bars)
    stages = recipes(folder, device, threads, dtype)
    look = look_recipe(folder, device, threads, dtype)
    with read_ahead(folder, bars):
        if with_ray:
            from dragoman.pipeline.graph import Graph

            return Graph.start(model, address=address, stages=stages, look=look)
        from dragoman.pipeline.local import Local

        return Local.start(model, stages=stages, look=look)


def locate(model: str, address: str | None = None, bars: bool = False) -> str:
    """What stages are told to load: a folder whose files are here and whole, or a bundled name.

    On the cluster at ``address`` a model that is not here is left for each node to find. ``bars``
    allows a progress bar. Raises CheckpointError.
    """
    if hub.here(model) is None and address is not None:
        return model
    folder = hub.find(model, bars)
    hub.read_config(folder)
    folders.tensors(folder)
    return model if hub.here(model) is not None else str(folder)


def check_sizes(model: str, *wanted: str) -> None:
    """Raises SizeError for a size that the located ``model`` does not have, before it is loaded.

    A model that is not here is left to the stages.
    """
    named = [size for size in wanted if size and size != "auto"]
    folder = hub.here(model)
    if not named or folder is None:
        return
    from dragoman.models.checkpoint import Checkpoint
    from dragoman.models.sizes import parse

    for size in named:
        parse(size, Checkpoint.open(str(folder)).text_config)


@contextmanager
def read_ahead(model: str, bars: bool = False) -> Iterator[None]:
    """Reads the weights of the located ``model`` into memory while the body starts what maps them.

    A small model, or one that is elsewhere, needs none of it.
    """
    folder = hub.here(model)
    wanted = [] if folder is None else reading.used_by_speech(folders.tensors(folder))
    if sum(stored.bytes for stored in wanted) < READ_BYTES:
        yield
        return
    over = threading.Event()
    with _bar(hub.name_of(Path(model)), bars) as progress:
        reader = threading.Thread(
            target=_read, args=(wanted, progress, over), name="read-ahead", daemon=True
        )
        reader.start()
        try:
            yield
        finally:
            over.set()
            reader.join()


def _read(wanted: list[reading.Stored], progress: reading.Progress, over: threading.Event) -> None:
    try:
        reading.read_ahead(wanted, progress, over.is_set)
    except OSError:  # who needs the file will say so
        return


@contextmanager
def _bar(name: str, shown: bool) -> Iterator[reading.Progress]:
    """A bar on stderr; what it yields is told how many bytes were read."""
    console = Console(stderr=True)
    columns = (TextColumn("reading {task.description}"), BarColumn(30), DownloadColumn())
    shown = shown and console.is_terminal
    with Progress(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not shown,
    ) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
