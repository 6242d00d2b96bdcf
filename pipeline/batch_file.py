"""One file of a batch: what is known of it, and what comes of it.

Between :mod:`pipeline.batch`, which hears files, and :mod:`pipeline.outputs`, which writes. What is
wrong with one file becomes part of its `Result` and stops no other.
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from dragoman.errors import DragomanError
from dragoman.pipeline.batch_options import BatchOptions
from dragoman.pipeline.documents import captions_of, document
from dragoman.pipeline.inputs import InputFile, Missing
from dragoman.pipeline.journal import Finished, Journal
from dragoman.pipeline.onset import onset
from dragoman.pipeline.outputs import Output, presented, write_all
from dragoman.pipeline.pool import Outcome
from dragoman.pipeline.runner import Failure
from dragoman.pipeline.shots import Shots
from dragoman.pipeline.word_times import spoken, timed
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption, Speech

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
class BatchFile:
    """A file that has work to do, or of which only outputs are missing.

    ``finished`` are its segments, of which ``kept`` are from the journal or the ``document`` of an
    earlier run; ``notes`` are for who asked, not for the document.
    """

    source: InputFile
    options: BatchOptions
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
    notes: list[str] = field(default_factory=list)
    document: dict[str, Any] | None = None
    shots: Shots = field(default_factory=Shots)
    stamp: tuple[int, int] | None = field(init=False)

    def __post_init__(self) -> None:
        self.stamp = _stamp(self.source.path)

    @property
    def until(self) -> int:
        """Up to which sample everything is finished."""
        return min([self.heard, *self.waiting.values()])

    def as_told(self, document: dict[str, Any]) -> "BatchFile":
        """The file, finished as the ``document`` of an earlier run tells."""
        captions = captions_of(document)
        self.document, self.warnings = document, list(document["warnings"])
        self.finished, self.kept = dict(enumerate(captions)), len(captions)
        self.heard, self.read = round(document["duration"] * SAMPLE_RATE_HZ), True
        return self

    def keep(self, speech: Speech) -> bool:
        """Takes a segment from the journal, if it is there."""
        known = self.known.get(speech.segment)
        if known is None or (known.start, known.end) != (speech.start, speech.end):
            return False
        self.finished[speech.segment] = known.caption
        self.kept += 1
        self.kept_samples += len(speech.samples)
        return True

    def take(self, speech: Speech, outcome: Outcome) -> None:
        """Takes what came of a segment, and notes it in the journal."""
        if isinstance(outcome, Failure):
            at = speech.start / SAMPLE_RATE_HZ
            said = outcome.message if outcome.stage == "worker" else _said(outcome)
            self.failure = self.failure or f"its segment at {at:.1f} s failed: {said}"
            return
        if outcome is not None:
            outcome = replace(outcome, start=outcome.start + onset(speech.samples))
            outcome = timed(outcome, spoken(outcome.transcript.whole, speech))
        finished = Finished(speech.start, speech.end, outcome)
        try:
            self.journal.finish_segment(self.source.name, speech.segment, finished)
        except OSError as error:
            self.failure = self.failure or unwritable(self.source.folder, error)
        self.finished[speech.segment] = outcome

    @property
    def advanced(self) -> Advanced:
        """How far it is."""
        worked = max(0, self.until - self.kept_samples) / SAMPLE_RATE_HZ
        return Advanced(self.source.path, self.until / SAMPLE_RATE_HZ, self.duration_s, worked)

    def result(self) -> Result:
        """What came of it; writes its outputs if nothing has failed."""
        source = self.source
        duration_s = self.heard / SAMPLE_RATE_HZ
        captions = [caption for _, caption in sorted(self.finished.items()) if caption is not None]
        written: list[Path] = []
        if not self.failure and _stamp(source.path) != self.stamp:
            self.failure = f"{source.path} was changed while it was read: give the command again"
        if not self.failure:
            try:
                written = self._write(captions, duration_s)
            except OSError as error:
                self.failure = unwritable(source.folder, error)
            except DragomanError as error:
                self.failure = str(error)
            except Exception as error:  # of a film: the other files go on
                self.failure = f"its outputs cannot be written: {type(error).__name__}: {error}"
        return Result(
            path=source.path,
            status="failed" if self.failure else "done",
            outputs=tuple(written),
            reason=self.failure or ("" if captions else "no speech was heard"),
            bad_input=self.bad_input,
            duration_s=duration_s,
            segments=len(self.finished),
            kept=self.kept,
            warnings=(*self.warnings, *self.notes),
        )

    def _write(self, captions: list[Caption], duration_s: float) -> list[Path]:
        source, session, model = self.source, self.options.session, self.options.spec.model
        shown, told = presented(captions, session, model)
        form = self.document
        if form is None:
            self.warnings += told
            # Pictures behind the sound may have been seen or not.
            changes_s = [at for at in self.shots.changes if at < duration_s]
            form = document(
                source.path.name,
                model,
                session,
                duration_s,
                captions,
                self.warnings,
                changes_s if self.has_video else None,
            )
        return write_all(self.outputs, source.folder, source.name, shown, form, self.journal)


def _stamp(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one that took its place; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def missing(entry: Missing) -> Result:
    """The result of something that was named and is not there."""
    return Result(entry.path, "failed", reason=entry.reason, bad_input=True)


def unwritable(folder: Path, error: OSError) -> str:
    """What to say about a ``folder`` in which nothing can be written."""
    file = next((path for path in (folder, *folder.parents) if os.path.isfile(path)), None)
    if file is not None:
        return f"{file} is a file, not a folder: choose another with -o"
    return f"{folder} cannot be written to ({error.strerror or error}): choose another with -o"


def _said(failure: Failure) -> str:
    return f"stage {failure.stage!r}: {failure.kind}: {failure.message}"
