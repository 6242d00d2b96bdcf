"""What a live session leaves on disk: every final caption at once, whole files at the end.

Place: between the final captions of `dragoman captions` and `pipeline.outputs`. While a session
goes on, its files have names of their own, NAME.unfinished.*, and are written again after each
final caption: whoever kills the process, what was said is there. At the end they get their names.

What is unusual: files of an earlier run are never replaced by less. A session that ends early takes
their names only where nothing has them; else its captions stay in the unfinished files. What a
killed session left is put aside under another name. A source that is a file follows the rule of
the batch (`pipeline.journal`): an output that no run has written as it is now is not replaced
unless that was asked for.
"""

import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path

from dragoman.errors import InputError
from dragoman.pipeline.documents import document
from dragoman.pipeline.formats import JSON, USUAL
from dragoman.pipeline.inputs import find
from dragoman.pipeline.journal import Journal, foreign, not_ours, relative
from dragoman.pipeline.outputs import Output, planned, presented, save, write_all
from dragoman.pipeline.subtitles import ONE_LANGUAGE
from dragoman.stages.messages import Caption, SessionOptions

UNFINISHED = "unfinished"
GOING_ON = "unfinished: the session was still going on when this was written"


@dataclass
class Saving:
    """Saves the captions of one session below ``folder``, as ``name`` and the languages' codes.

    formats: of the files; the document is written in any case, as the log of the session.
    source: what the document calls the source. journal: that of the folder, for a file at ``path``,
    which can be captioned again; None where the name is new in any case. marks: samples that
    somebody has marked. duration_s: what was heard. share: of the time, at most, that writing anew
    may take; where it would take more, a caption waits for a later one.
    """

    folder: Path
    name: str
    source: str
    model: str
    options: SessionOptions
    formats: tuple[str, ...] = USUAL
    journal: Journal | None = None
    path: Path | None = None
    finals: list[Caption] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    duration_s: float = 0.0
    share: float = 0.05
    problem: str = ""  # why the last attempt to write failed
    found: str = ""  # a sentence about what a session that was killed had left
    _next: float = 0.0  # when writing may be tried again

    @classmethod
    def of_file(
        cls,
        folder: Path,
        path: Path,
        model: str,
        options: SessionOptions,
        overwrite: bool = False,
        formats: tuple[str, ...] = USUAL,
    ) -> "Saving":
        """For a file's captions, under the name that a batch would give it.

        Raises InputError for outputs that are not ours, OSError for a folder that cannot be used or
        in which another run is at work.
        """
        (found, *_), _ = find([path], folder)
        journal = Journal(folder, uuid.uuid4().hex[:8])
        saving = cls(folder, found.name, path.name, model, options, formats, journal, path)
        entry = journal.entries.get(saving.name)
        if not overwrite and (strange := not_ours(entry, saving.paths)) is not None:
            journal.close()
            raise InputError(foreign(strange))
        saving._put_aside()
        return saving

    @classmethod
    def of_sound(
        cls,
        folder: Path,
        name: str,
        source: str,
        model: str,
        options: SessionOptions,
        formats: tuple[str, ...] = USUAL,
    ) -> "Saving":
        """For sound that cannot be heard again, under a ``name`` that is new."""
        saving = cls(folder, name, source, model, options, formats)
        mark = f".{UNFINISHED}.json"
        left = sorted(path.name.removesuffix(mark) for path in folder.glob(f"captions-*{mark}"))
        if left:
            saving.found = (
                f"earlier sessions did not come to their end, or still go on: {', '.join(left)}; "
                f"what they captioned is in {folder.absolute()}, in files named *.{UNFINISHED}.*"
            )
        return saving

    def _put_aside(self) -> None:
        """Gives what a killed session left another name, so that nothing is written over it."""
        lost = [output.file for output in self._outputs(f"{self.name}.{UNFINISHED}")]
        if not any((self.folder / file).exists() for file in lost):
            return
        number = 2
        while any(self.folder.glob(f"{escape(self.name)}.{UNFINISHED}-{number}.*")):
            number += 1
        for file in lost:
            with suppress(FileNotFoundError):
                other = file.replace(f".{UNFINISHED}.", f".{UNFINISHED}-{number}.")
                (self.folder / file).rename(self.folder / other)
        self.found = (
            f"an earlier session of {self.source} did not come to its end: what it had captioned "
            f"is in {self.folder / self.name}.{UNFINISHED}-{number}.*; this one begins anew"
        )

    def add(self, caption: Caption, duration_s: float) -> None:
        """Takes in a final caption. Where it cannot be written now, `problem` says why, and the
        next one is another attempt.
        """
        self.finals.append(caption)
        self.duration_s = duration_s
        begin = time.monotonic()
        if begin < self._next:
            return
        try:
            self._write(f"{self.name}.{UNFINISHED}", [GOING_ON])
            self.problem = ""
        except OSError as error:
            self.problem = self._unwritten(error)
        self._next = time.monotonic() + (time.monotonic() - begin) / self.share

    def end(self, warnings: Sequence[str], early: str = "") -> str:
        """Gives the files their names; returns a sentence about what the user should know, if
        there is something. ``early`` says why the session ended before its source.

        Raises OSError where nothing can be written, not even into the system's temporary folder.
        """
        warnings = [*warnings, *([f"unfinished: {early}"] if early else [])]
        try:
            if early and (there := [path for path in self.paths if path.exists()]):
                self._write(f"{self.name}.{UNFINISHED}", warnings)
                return (
                    f"its captions are in {self.folder / self.name}.{UNFINISHED}.*, as "
                    f"{there[0]} is that of an earlier run"
                )
            self._write(self.name, warnings)
            self._remove_unfinished()
            return ""
        except OSError as error:
            return self._elsewhere(error, warnings)

    def close(self) -> None:
        """Lets other runs into the folder."""
        if self.journal is not None:
            self.journal.tidy()
            self.journal.close()

    @property
    def paths(self) -> list[Path]:
        """The files that a whole session has."""
        return [self.folder / output.file for output in self._outputs(self.name)]

    def shown(self) -> tuple[list[Caption], list[str]]:
        """The captions that subtitles show, and sentences about what they leave out."""
        return presented(self.finals, self.options, self.model)

    def _write(self, name: str, warnings: Sequence[str], folder: Path | None = None) -> None:
        shown, told = self.shown()
        told = [*warnings, *told]
        form = document(
            self.source,
            self.model,
            self.options,
            self.duration_s,
            self.finals,
            told,
            marks=self.marks,
        )
        outputs = self._outputs(name)
        whole = name == self.name and folder is None
        if whole and self.journal is not None and self.path is not None:
            self.journal.begin(name, relative(self.path, self.folder), "captions")
            write_all(outputs, self.folder, name, shown, form, self.journal)
        else:
            save(outputs, folder or self.folder, shown, form)

    def _outputs(self, name: str) -> list[Output]:
        return planned(name, self.options, (*self.formats, JSON), ONE_LANGUAGE)

    def _remove_unfinished(self) -> None:
        for output in self._outputs(f"{self.name}.{UNFINISHED}"):
            with suppress(OSError):
                (self.folder / output.file).unlink(missing_ok=True)

    def _elsewhere(self, error: OSError, warnings: Sequence[str]) -> str:
        """Saves into a new folder of the system's, for a disk that is full or gone."""
        problem = self._unwritten(error)
        try:
            folder = Path(tempfile.mkdtemp(prefix="dragoman-captions-"))
            self._write(self.name, warnings, folder)
        except OSError:
            raise OSError(f"{problem}; and there is no other place for the captions") from error
        return f"{problem}; the captions are in {folder}"

    def _unwritten(self, error: OSError) -> str:
        return f"cannot write into {self.folder.absolute()}: {error.strerror or error}"
