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

import os
import uuid
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from dragoman.errors import DragomanError, InputError
from dragoman.pipeline.batch_options import BatchOptions
from dragoman.pipeline.frames import read_frames
from dragoman.pipeline.inputs import InputFile, Missing
from dragoman.pipeline.journal import Entry, Finished, Journal, foreign, not_ours, relative
from dragoman.pipeline.media import probe, read_audio
from dragoman.pipeline.onset import onset
from dragoman.pipeline.opening import Warn
from dragoman.pipeline.outputs import Output, document, presented, write_all
from dragoman.pipeline.pool import Job, Outcome, Pool
from dragoman.pipeline.recipes import Recipe, look_recipe, recipes
from dragoman.pipeline.runner import Failure
from dragoman.pipeline.segments import segments
from dragoman.pipeline.shots import Shots
from dragoman.pipeline.word_times import spoken, timed
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption, Picture, Speech

Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Result:
    """What came of one input.

    ``reason`` says why it was skipped or failed, ``bad_input`` that the input is to blame, ``kept``
    how many of its ``segments`` an earlier run had finished.
    """

    path: Path
    status: Status
    outputs: tuple[Path, ...] = ()
    reason: str = ""
    bad_input: bool = False
    duration_s: float = 0.0
    segments: int = 0
    kept: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Advanced:
    """``path`` is done up to ``until_s``; ``worked_s`` of that is work of this run."""

    path: Path
    until_s: float
    duration_s: float | None
    worked_s: float


@dataclass(eq=False)
class _File:
    """A file that has work to do."""

    source: InputFile
    outputs: list[Output]
    journal: Journal
    work: str
    duration_s: float | None
    has_video: bool
    known: dict[int, Finished] = field(default_factory=dict)
    finished: dict[int, Caption | None] = field(default_factory=dict)
    waiting: dict[int, int] = field(default_factory=dict)  # where unfinished segments start
    heard: int = 0  # samples read
    kept: int = 0
    kept_samples: int = 0
    read: bool = False
    reported: bool = False
    failure: str = ""
    bad_input: bool = False
    warnings: list[str] = field(default_factory=list)
    shots: Shots = field(default_factory=Shots)

    @property
    def until(self) -> int:
        return min([self.heard, *self.waiting.values()])


class Batch:
    """Many files with the same options: :meth:`prepare`, then :meth:`run`, then :meth:`close`."""

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
        self._files: list[_File] = []
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
                reason = str(error) if busy else _unwritable(source.folder, error)
                done = Result(source.path, "failed", reason=reason)
            if done is not None:
                yield done

    @property
    def to_do(self) -> list[tuple[Path, float | None]]:
        """The files that are left to work on, and how long they are, where their header says."""
        return [(file.source.path, file.duration_s) for file in self._files]

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
        options = self._options
        work, outputs = options.work(source, self._model), options.outputs(source)
        paths = tuple(source.folder / output.file for output in outputs)
        if source.folder.is_dir():
            entry = self._journal(source.folder).entries.get(source.name)
            if not options.overwrite:
                if entry is not None and _is_done(entry, work, outputs, paths):
                    return Result(source.path, "skipped", paths, "already done")
                if (strange := not_ours(entry, paths)) is not None:
                    return Result(source.path, "failed", reason=foreign(strange))
        info = probe(source.path)
        if not info.has_audio:
            read_audio(source.path)  # says so
        elif (options.channel, options.track) != (None, None):
            self._sound(source.path, lambda _: None)  # says what is not there
        if options.burn_in and not info.has_video:
            raise InputError(f"{source.path} has no picture to draw in: leave out --burn-in")
        self._make(source.folder)
        journal = self._journal(source.folder)
        self._files.append(_File(source, outputs, journal, work, info.duration_s, info.has_video))
        return None

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

    def _feed(self, file: _File, pool: Pool) -> Iterator[Advanced | Result]:
        """Reads ``file`` and gives out its segments; collects whenever the pool is full."""
        source = file.source
        name = relative(source.path, source.folder)
        try:
            file.known = dict(file.journal.begin(source.name, name, file.work).segments)
        except OSError as error:
            file.failure = _unwritable(source.folder, error)
            return
        yield self._advanced(file)
        with closing(self._segments(file)) as speeches:
            while (speech := _next(file, speeches)) is not None:
                while pool.full:
                    yield from self._collect(pool)
                if file.failure:
                    return
                if not self._keep(file, speech):
                    file.waiting[speech.segment] = speech.start
                    pool.submit(Job(file, speech, self._options.session))
        file.read = True

    def _segments(self, file: _File) -> Generator[Speech, None, None]:
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

    def _pictures(self, file: _File) -> Iterator[Picture] | None:
        """What a video shows, without pixels where nobody looks at them."""
        if not file.has_video:
            return None
        pictures = read_frames(file.source.path, shots=file.shots)
        return pictures if self.look else (picture.without_pixels() for picture in pictures)

    def _keep(self, file: _File, speech: Speech) -> bool:
        """Takes a segment from the journal, if it is there."""
        known = file.known.get(speech.segment)
        if known is None or (known.start, known.end) != (speech.start, speech.end):
            return False
        file.finished[speech.segment] = known.caption
        file.kept += 1
        file.kept_samples += len(speech.samples)
        return True

    def _collect(self, pool: Pool) -> Iterator[Advanced | Result]:
        for job, outcome in pool.collect():
            file: _File = job.owner
            del file.waiting[job.speech.segment]
            self._take(file, job.speech, outcome)
            yield self._advanced(file)
            yield from self._finish(file)

    def _take(self, file: _File, speech: Speech, outcome: Outcome) -> None:
        if isinstance(outcome, Failure):
            at = speech.start / SAMPLE_RATE_HZ
            said = outcome.message if outcome.stage == "worker" else _said(outcome)
            file.failure = file.failure or f"its segment at {at:.1f} s failed: {said}"
            return
        if outcome is not None:
            outcome = replace(outcome, start=outcome.start + onset(speech.samples))
            outcome = timed(outcome, spoken(outcome.transcript.whole, speech))
        finished = Finished(speech.start, speech.end, outcome)
        try:
            file.journal.finish_segment(file.source.name, speech.segment, finished)
        except OSError as error:
            file.failure = file.failure or _unwritable(file.source.folder, error)
        file.finished[speech.segment] = outcome

    def _advanced(self, file: _File) -> Advanced:
        worked = max(0, file.until - file.kept_samples) / SAMPLE_RATE_HZ
        return Advanced(file.source.path, file.until / SAMPLE_RATE_HZ, file.duration_s, worked)

    # After the work.

    def _finish(self, file: _File) -> Iterator[Result]:
        """The result of ``file``, once: when nothing of it is under way any more."""
        if file.reported or file.waiting or not (file.read or file.failure):
            return
        file.reported = True
        yield self._result(file)

    def _result(self, file: _File) -> Result:
        source = file.source
        duration_s = file.heard / SAMPLE_RATE_HZ
        captions = [caption for _, caption in sorted(file.finished.items()) if caption is not None]
        written: list[Path] = []
        if not file.failure:
            shown, told = presented(captions, self._options.session, self._options.spec.model)
            file.warnings += told
            form = document(
                source.path.name,
                self._options.spec.model,
                self._options.session,
                duration_s,
                captions,
                file.warnings,
                # Pictures behind the sound may have been seen or not.
                [at for at in file.shots.changes if at < duration_s] if file.has_video else None,
            )
            try:
                written = write_all(
                    file.outputs, source.folder, source.name, shown, form, file.journal
                )
            except OSError as error:
                file.failure = _unwritable(source.folder, error)
            except DragomanError as error:
                file.failure = str(error)
            except Exception as error:  # of a film: the other files go on
                file.failure = f"its outputs cannot be written: {type(error).__name__}: {error}"
        return Result(
            path=source.path,
            status="failed" if file.failure else "done",
            outputs=tuple(written),
            reason=file.failure or ("" if captions else "no speech was heard"),
            bad_input=file.bad_input,
            duration_s=duration_s,
            segments=len(file.finished),
            kept=file.kept,
            warnings=tuple(file.warnings),
        )


def missing(entry: Missing) -> Result:
    """The result of something that was named and is not there."""
    return Result(entry.path, "failed", reason=entry.reason, bad_input=True)


def _is_done(entry: Entry, work: str, outputs: Sequence[Output], paths: Sequence[Path]) -> bool:
    asked = {output.file for output in outputs}
    same = entry.done and entry.work == work and asked <= set(entry.written)
    return same and all(path.exists() for path in paths)


def _next(file: _File, speeches: Iterator[Speech]) -> Speech | None:
    """The next segment, None at the end; what is wrong with one file must not end the others."""
    try:
        return next(speeches, None)
    except (InputError, OSError) as error:
        file.failure, file.bad_input = str(error), True
    except Exception as error:
        file.failure = f"{file.source.path} could not be read: {type(error).__name__}: {error}"
    return None


def _unwritable(folder: Path, error: OSError) -> str:
    file = next((path for path in (folder, *folder.parents) if os.path.isfile(path)), None)
    if file is not None:
        return f"{file} is a file, not a folder: choose another with -o"
    return f"{folder} cannot be written to ({error.strerror or error}): choose another with -o"


def _said(failure: Failure) -> str:
    return f"stage {failure.stage!r}: {failure.kind}: {failure.message}"
