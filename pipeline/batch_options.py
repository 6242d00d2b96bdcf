"""What is asked of a batch: the options for its files, the outputs and the work that follow.

In front of :mod:`pipeline.batch`, without Ray or a model. The captions of a file depend on it, the
model and the options alone; a digest of all of them tells a later run whether what it finds in the
journal is what it would make. How they are laid out is another matter: see `Output.layout`.
"""

import hashlib
import json
from dataclasses import dataclass

from dragoman.errors import InputError
from dragoman.models.hub import here
from dragoman.pipeline.documents import asked
from dragoman.pipeline.formats import USUAL
from dragoman.pipeline.inputs import InputFile
from dragoman.pipeline.outputs import Output, films, planned
from dragoman.pipeline.rules import Rules
from dragoman.pipeline.subtitles import RULES, TEXTS, Which
from dragoman.spec import ModelSpec
from dragoman.stages.messages import SessionOptions

MADE = 8  # raised when the same file gives other outputs: what an older version did is done again


@dataclass(frozen=True)
class BatchOptions:
    """What is asked for every file of a batch."""

    session: SessionOptions = SessionOptions()
    spec: ModelSpec = ModelSpec()
    formats: tuple[str, ...] = USUAL
    texts: tuple[Which, ...] = TEXTS
    overwrite: bool = False
    channel: int | None = None  # the one that is heard, from 1; None: all of them, mixed
    track: int | None = None  # the sound track that is heard, from 1; None: see pipeline.media
    rules: Rules = RULES
    mux: bool = False  # also a copy of the film with the texts as tracks
    burn_in: Which | None = None  # also a copy of the film with this text in its picture

    def outputs(self, source: InputFile, picture: bool = True) -> list[Output]:
        """The files for ``source``, in the order in which they are shown; without a ``picture``
        nothing is drawn into it.
        """
        name, session, texts, rules = source.name, self.session, self.texts, self.rules
        burnt = self.burn_in if picture else None
        written = planned(name, session, self.formats, texts, rules)
        return written + films(source.path, name, session, texts, burnt, self.mux, rules)

    def fingerprint(self) -> list[object]:
        """What tells the model from another: its type, and names, sizes and times of its files."""
        folder = here(self.spec.model)
        if folder is None:
            return [self.spec.dtype, self.spec.model]
        files = sorted(path for path in folder.iterdir() if path.is_file())
        told = [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files]
        return [self.spec.dtype, *told]

    def work(self, source: InputFile, fingerprint: list[object]) -> str:
        """A digest of all that the captions of ``source`` depend on; raises InputError."""
        try:
            status = source.path.stat()
        except OSError as error:
            raise InputError(f"{source.path} cannot be read ({error.strerror})") from error
        parts = [MADE, status.st_size, status.st_mtime_ns, fingerprint, asked(self.session)]
        parts += [] if self.channel is None else [self.channel]
        parts += [] if self.track is None else [{"track": self.track}]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
