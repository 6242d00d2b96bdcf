"""Subtitles for many files: segments are the unit of work, files only order and own them.

One thread decodes file after file, cuts it into segments (:mod:`pipeline.segments`) and hands them
to a pool of actors; a bounded number is under way, so a file is never in memory as a whole, and the
last segments of one file are worked on beside the first of the next. A segment of a video brings
its pictures along, and they are gone with it: the journal and the outputs only name them. Finished
segments go to the journal, and once a file has all of them its outputs are written.

What is unusual: a segment's caption is computed in one go when its audio is complete, without
partial ones, so it depends on nothing but the file, the model and the options: any worker, at any
time and after any accident, gives the same.
"""

import uuid
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dragoman.errors import InputError
from dragoman.pipeline.batch_file import Advanced, BatchFile, Result, unwritable
from dragoman.pipeline.batch_options import BatchOptions
from dragoman.pipeline.documents import read_document
from dragoman.pipeline.formats import JSON
from dragoman.pipeline.frames import read_frames
from dragoman.pipeline.inputs import InputFile
from dragoman.pipeline.journal import Entry, Journal, foreign, not_ours, relative
from dragoman.pipeline.media import MediaInfo, probe, read_audio
from dragoman.pipeline.opening import Warn
from dragoman.pipeline.outputs import Output
from dragoman.pipeline.pool import Job, Pool
from dragoman.pipeline.recipes import Recipe, look_recipe, recipes
from dragoman.pipeline.segments import segments
from dragoman.stages.messages import Picture, Speech


class Batch:
    """Many files with the same options: :meth:`prepare`, then :meth:`write` and :meth:`run`, then
    :meth:`close`.
    """

    def __init__(
        self,
        sources: Iterable[InputFile],
        options: BatchOptions,
        stages: Sequence[Recipe] | None = None,
        look: Recipe | None = None,
    ) -> None:
        """``stages``, the segmenter first, and ``look`` take the place of those of the model.

        ``recipes`` and ``look`` are for the pool; without ``look`` pictures are only named.
        """
        self._sources, self._options = list(sources), options
        if stages is None:
            alone = replace(options.spec, threads=1)
            stages, look = recipes(alone), look_recipe(alone)
        self._segmenter, self.recipes, self.look = stages[0], tuple(stages[1:]), look
        self._run = uuid.uuid4().hex[:12]
        self._model = options.fingerprint()
        self._journals: dict[Path, Journal] = {}
        self._files: list[BatchFile] = []
        self._known: list[BatchFile] = []
        self._made: list[Path] = []

    def prepare(self) -> Iterator[Result]:
        """Looks at all files; yields the results of those that need no work, or can have none."""
        for source in self._sources:
            try:
                done = self._prepare(source)
            except InputError as error:
                done = Result(source.path, "failed", reason=str(error), bad_input=True)
            except OSError as error:
                busy = isinstance(error, BlockingIOError)
                reason = str(error) if busy else unwritable(source.folder, error)
                done = Result(source.path, "failed", reason=reason)
            if done is not None:
                yield done

    @property
    def to_do(self) -> list[tuple[Path, float | None]]:
        """The files that are left to work on, and how long they are, where their header says."""
        return [(file.source.path, file.duration_s) for file in self._files]

    @property
    def to_write(self) -> list[tuple[Path, float | None]]:
        """The files that need no more than :meth:`write`, which hears nothing."""
        return [(file.source.path, 0.0) for file in self._known]

    def write(self) -> Iterator[Result]:
        """Writes what is asked for in addition about files that an earlier run has finished, from
        their documents.
        """
        return (file.result() for file in self._known)

    def run(self, pool: Pool) -> Iterator[Advanced | Result]:
        """Works on what is left; yields how far each file is, and what came of it."""
        for file in self._files:
            yield from self._feed(file, pool)
            yield from self._finish(file)
        while pool.busy:
            yield from self._collect(pool)

    def close(self) -> None:
        """Closes the journals, and removes the folders made here in which nothing was written."""
        for journal in self._journals.values():
            journal.tidy()
        for folder in reversed(self._made):
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        for journal in self._journals.values():
            journal.close()
        self._journals, self._made = {}, []

    # Before the work.

    def _prepare(self, source: InputFile) -> Result | None:
        options, work = self._options, self._options.work(source, self._model)
        picture = options.burn_in is None or probe(source.path).has_video
        outputs = options.outputs(source, picture)
        paths = tuple(source.folder / output.file for output in outputs)
        known = None
        if source.folder.is_dir() and not options.overwrite:
            entry = self._journal(source.folder).entries.get(source.name)
            if entry is not None and _is_done(entry, work, outputs, paths):
                return Result(source.path, "skipped", paths, "already done")
            if (strange := not_ours(entry, paths)) is not None:
                return Result(source.path, "failed", reason=foreign(strange))
            known = entry and _document(entry, work, source)
        info = probe(source.path)
        if known is None:
            self._check_sound(source.path, info)
        self._make(source.folder)
        journal = self._journal(source.folder)
        file = BatchFile(source, options, outputs, journal, work, info.duration_s, info.has_video)
        if not picture:
            file.notes.append("it has no picture to draw in, so it gets its subtitle files alone")
        if known is None:
            self._files.append(file)
        else:
            self._known.append(file.as_told(known))
        return None

    def _check_sound(self, path: Path, info: MediaInfo) -> None:
        """Raises InputError for a sound track or a channel that is not there."""
        if not info.has_audio:
            read_audio(path)
        elif (self._options.channel, self._options.track) != (None, None):
            self._sound(path, lambda _: None)

    def _make(self, folder: Path) -> None:
        """Makes ``folder``, and remembers which folders were not there before, outermost first."""
        lacking = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        self._made += reversed(lacking)

    def _journal(self, folder: Path) -> Journal:
        key = folder.resolve()
        if key not in self._journals:
            self._journals[key] = Journal(folder, self._run)
        return self._journals[key]

    # The work.

    def _feed(self, file: BatchFile, pool: Pool) -> Iterator[Advanced | Result]:
        """Reads ``file`` and gives out its segments; collects whenever the pool is full."""
        source = file.source
        name = relative(source.path, source.folder)
        try:
            file.known = dict(file.journal.begin(source.name, name, file.work).segments)
        except OSError as error:
            file.failure = unwritable(source.folder, error)
            return
        yield file.advanced
        with closing(self._segments(file)) as speeches:
            while (speech := _next(file, speeches)) is not None:
                while pool.full:
                    yield from self._collect(pool)
                if file.failure:
                    return
                if not file.keep(speech):
                    file.waiting[speech.segment] = speech.start
                    pool.submit(Job(file, speech, self._options.session))
        file.read = True

    def _segments(self, file: BatchFile) -> Generator[Speech, None, None]:
        def warn(sentence: str) -> None:
            file.warnings.append(sentence.replace(str(file.source.path), file.source.path.name))

        def counted() -> Iterator[np.ndarray]:
            for piece in self._sound(file.source.path, warn):
                yield piece
                file.heard += len(piece)

        stage, pictures = self._segmenter.make(), self._pictures(file)
        return segments(counted(), stage, self._options.session, pictures, warn)

    def _sound(self, path: Path, warn: Warn) -> Iterator[np.ndarray]:
        asked = self._options
        language, track, channel = asked.session.language, asked.track, asked.channel
        return read_audio(path, track=track, language=language, channel=channel, warn=warn)

    def _pictures(self, file: BatchFile) -> Iterator[Picture] | None:
        """What a video shows, without pixels where nobody looks at them."""
        if not file.has_video:
            return None
        pictures = read_frames(file.source.path, shots=file.shots)
        return pictures if self.look else (picture.without_pixels() for picture in pictures)

    def _collect(self, pool: Pool) -> Iterator[Advanced | Result]:
        for job, outcome in pool.collect():
            file: BatchFile = job.owner
            del file.waiting[job.speech.segment]
            file.take(job.speech, outcome)
            yield file.advanced
            yield from self._finish(file)

    # After the work.

    def _finish(self, file: BatchFile) -> Iterator[Result]:
        """The result of ``file``, once: when nothing of it is under way any more."""
        if file.reported or file.waiting or not (file.read or file.failure):
            return
        file.reported = True
        yield file.result()


def _is_done(entry: Entry, work: str, outputs: Sequence[Output], paths: Sequence[Path]) -> bool:
    same = all(entry.written.get(output.file) == output.layout for output in outputs)
    return entry.done and entry.work == work and same and all(path.exists() for path in paths)


def _document(entry: Entry, work: str, source: InputFile) -> dict[str, Any] | None:
    """What an earlier run of the same ``work`` told about ``source``, if it is there as written."""
    path = source.folder / f"{source.name}.{JSON}"
    if not entry.done or entry.work != work or path.name not in entry.written:
        return None
    if not path.exists() or not_ours(entry, [path]) is not None:
        return None
    return read_document(path)


def _next(file: BatchFile, speeches: Iterator[Speech]) -> Speech | None:
    """The next segment, None at the end; what is wrong with one file must not end the others."""
    try:
        return next(speeches, None)
    except (InputError, OSError) as error:
        file.failure, file.bad_input = str(error), True
    except Exception as error:
        file.failure = f"{file.source.path} could not be read: {type(error).__name__}: {error}"
    return None
