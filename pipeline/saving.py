"""What a live session leaves on disk: every final caption at once, whole files at the end.

Place: between the final captions of `dragoman captions` and `pipeline.outputs`. While a session
goes on, its files have names of their own, NAME.unfinished.*, and are written again after each
final caption: whoever kills the process, what was said is there. At the end they get their names.

What is unusual: files of an earlier run are never replaced by less. A session that ends early takes
their names only where nothing has them; else its captions stay in the unfinished files. A source
that is a file follows the rule of the batch (`pipeline.journal`): a file that no run has written as
it is now is not replaced unless that was asked for.
"""

import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dragoman.errors import InputError
from dragoman.pipeline.formats import USUAL
from dragoman.pipeline.journal import Journal, foreign, not_ours
from dragoman.pipeline.outputs import Output, confident, document, planned, save, write_all
from dragoman.stages.messages import Caption, SessionOptions

UNFINISHED = "unfinished"
GOING_ON = "unfinished: the session was still going on when this was written"


@dataclass
class Saving:
    """Saves the captions of one session below ``folder``, as ``name`` and the languages' codes.

    source: what the document calls the source. journal: that of the folder, for a source that can
    be captioned again; None where the name is new in any case. duration_s: what was heard. share:
    of the time, at most, that writing anew may take; where it would take more, a caption waits for
    a later one.
    """

    folder: Path
    name: str
    source: str
    model: str
    options: SessionOptions
    journal: Journal | None = None
    finals: list[Caption] = field(default_factory=list)
    duration_s: float = 0.0
    share: float = 0.05
    problem: str = ""  # why the last attempt to write failed
    _next: float = 0.0  # when writing may be tried again

    @classmethod
    def of_file(
        cls,
        folder: Path,
        path: Path,
        model: str,
        options: SessionOptions,
        overwrite: bool = False,
    ) -> "Saving":
        """For a file's captions. Raises InputError for outputs that are not ours, OSError for a
        folder that cannot be used or in which another run is at work.
        """
        journal = Journal(folder, uuid.uuid4().hex[:8])
        saving = cls(folder, path.stem, path.name, model, options, journal)
        entry = journal.entries.get(saving.name)
        if not overwrite and (strange := not_ours(entry, saving.paths)) is not None:
            journal.close()
            raise InputError(foreign(strange))
        return saving

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
            self.problem = f"cannot write into {self.folder.absolute()}: {error.strerror}"
        self._next = time.monotonic() + (time.monotonic() - begin) / self.share

    def end(self, warnings: Sequence[str], early: str = "") -> str:
        """Gives the files their names; returns a sentence about what the user should know, if
        there is something. ``early`` says why the session ended before its source.

        Raises OSError where nothing can be written, not even into the system's temporary folder.
        """
        warnings = [*warnings, *([f"unfinished: {early}"] if early else [])]
        try:
            if early and any(path.exists() for path in self.paths):
                self._write(f"{self.name}.{UNFINISHED}", warnings)
                return (
                    f"its captions are in {self.folder / self.name}.{UNFINISHED}.*, as "
                    f"{self.paths[0]} is that of an earlier run"
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

    def shown(self) -> tuple[list[Caption], str]:
        """The captions that subtitles show, and a sentence about those that they leave out."""
        return confident(self.finals, self.options, self.model)

    def _write(self, name: str, warnings: Sequence[str]) -> None:
        shown, unsure = self.shown()
        told = [*warnings, unsure] if unsure else list(warnings)
        form = document(self.source, self.model, self.options, self.duration_s, self.finals, told)
        outputs = self._outputs(name)
        if self.journal is not None and name == self.name:
            self.journal.begin(name, self.source, "captions")
            write_all(outputs, self.folder, name, shown, form, self.journal)
        else:
            save(outputs, self.folder, shown, form)

    def _outputs(self, name: str) -> list[Output]:
        return planned(name, self.options, USUAL, bilingual=False)

    def _remove_unfinished(self) -> None:
        for output in self._outputs(f"{self.name}.{UNFINISHED}"):
            with suppress(OSError):
                (self.folder / output.file).unlink(missing_ok=True)

    def _elsewhere(self, error: OSError, warnings: Sequence[str]) -> str:
        """Saves into a new folder of the system's, for a disk that is full or gone."""
        problem = f"cannot write into {self.folder.absolute()}: {error.strerror or error}"
        try:
            folder = Path(tempfile.mkdtemp(prefix="dragoman-captions-"))
            shown, _ = self.shown()
            form = document(
                self.source, self.model, self.options, self.duration_s, self.finals, warnings
            )
            save(self._outputs(self.name), folder, shown, form)
        except OSError:
            raise OSError(f"{problem}; and there is no other place for the captions") from error
        return f"{problem}; the captions are in {folder}"
