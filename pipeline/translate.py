"""Subtitles for many files, from start to end: found, planned, worked on, told about as events.

What a command or a program calls; :mod:`pipeline.batch` does the work. What can be known without a
model is found out first: which files there are, which are done, which are bad. Only if something is
left to do the model is loaded.
"""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dragoman.pipeline.batch import Batch
from dragoman.pipeline.batch_file import Advanced, Result, missing
from dragoman.pipeline.batch_options import BatchOptions
from dragoman.pipeline.inputs import find
from dragoman.pipeline.pool import Pool
from dragoman.pipeline.start import check_sizes, host, locate, read_ahead
from dragoman.spec import BATCH_SIZE


@dataclass(frozen=True)
class Found:
    """The first event: how many inputs there are; each will have its `Result`."""

    inputs: int


@dataclass(frozen=True)
class Planned:
    """What is left to work on, each file with its seconds where its header tells them. The model is
    being loaded now, unless this is a dry run."""

    to_do: Sequence[tuple[Path, float | None]]


@dataclass(frozen=True)
class Ready:
    """The model is loaded, by so many workers."""

    workers: int


Event = Found | Planned | Ready | Advanced | Result


def translate(
    paths: Iterable[str | Path],
    options: BatchOptions,
    output_dir: Path | None = None,
    *,
    workers: int | None = None,
    batch_size: int = BATCH_SIZE,
    ray: bool = True,
    bars: bool = False,
    dry_run: bool = False,
) -> Generator[Event, None, None]:
    """Writes what ``options`` ask for about all files behind ``paths``; gives events as they come.

    Outputs lie beside each file or in ``output_dir``. What was finished is kept if the generator is
    closed early: the same call goes on there. ``workers`` are processes of Ray, by default one for
    each core or GPU; without ``ray`` this process works. ``batch_size`` segments share the passes
    of the model; with 1 outputs are the same to the bit whatever happens. ``bars`` allows a
    progress bar for a download; a ``dry_run`` ends where the model would be loaded. An input that
    fails is a `Result`; raises CheckpointError, SizeError, DeviceError and PipelineError.
    """
    sources, lacking = find(paths, output_dir)
    if sources:
        options = replace(options, spec=locate(options.spec, bars))
        check_sizes(options.spec)
    yield Found(len(sources) + len(lacking))
    batch = Batch(sources, options)
    try:
        yield from map(missing, lacking)
        yield from batch.prepare()
        if dry_run:
            yield Planned([*batch.to_write, *batch.to_do])
            return
        yield from batch.write()
        if batch.to_do:
            yield Planned(batch.to_do)
            yield from _work(batch, options, workers, batch_size, ray)
    finally:
        batch.close()


def _work(
    batch: Batch, options: BatchOptions, workers: int | None, batch_size: int, ray: bool
) -> Generator[Event, None, None]:
    with read_ahead(options.spec):
        where = host(ray, options.spec.address, workers or 1)
        pool = Pool.start(where, batch.recipes, workers, batch.look, batch_size)
    try:
        yield Ready(len(pool))
        yield from batch.run(pool)
    finally:
        pool.stop()
