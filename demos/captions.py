"""`dragoman captions`: one session from a source to a view and to files.

What the user asked for is checked first, cheap things before expensive ones; then the pipeline
starts, and captions run until the source ends or Ctrl-C. The first Ctrl-C ends the input: the last
words are still shown and saved. A second one does not wait for them.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from demos.score import word_error_rate
from demos.terminal import JsonLines, LiveView, PlainLines, View, clock
from models.prompt import LanguageError, language_name
from pipeline.chain import Chain
from pipeline.errors import InputError
from pipeline.media import read_audio
from pipeline.session import Pace, Session
from pipeline.subtitles import cues, write
from stages.messages import Caption, SessionOptions

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130


@dataclass(frozen=True)
class Request:
    """What the command line asked for."""

    file: Path
    language: str = "es"
    target_language: str = "en"
    as_json: bool = False
    output_dir: Path | None = None
    reference: Path | None = None
    pace: Pace = "real-time"
    model: str = "nano"
    device: str = "cpu"
    threads: int | None = None
    address: str | None = None
    with_ray: bool = True


@dataclass(frozen=True)
class Source:
    """Where audio comes from: ``name`` for screens, ``stem`` for the names of output files."""

    name: str
    stem: str
    pieces: Iterable[np.ndarray]


def run(request: Request) -> int:
    """Captions from start to end; returns the exit code, raises what the command line explains."""
    _check_languages(request)
    reference = None if request.reference is None else _read_reference(request.reference)
    source = open_source(request)
    if request.output_dir is not None:
        request.output_dir.mkdir(parents=True, exist_ok=True)
    if sys.stderr.isatty():
        print(f"loading {request.model} ...", file=sys.stderr)
    chain = start(request)
    try:
        return _caption(request, source, chain, reference)
    finally:
        chain.stop()


def open_source(request: Request) -> Source:
    """The file to listen to; raises InputError before anything expensive has begun."""
    return Source(str(request.file), request.file.stem, read_audio(request.file))


def start(request: Request) -> Chain:
    """The pipeline, as Ray actors or in this process."""
    if not request.with_ray:
        from pipeline.local import Local

        return Local.start(request.model, request.device, request.threads)
    from pipeline.graph import Graph

    return Graph.start(request.model, request.device, request.address, request.threads)


def save(captions: list[Caption], stem: str, request: Request, folder: Path) -> None:
    """Writes subtitles in both languages and all final events; each file appears whole or not."""
    transcript, translation = cues(captions, "transcript"), cues(captions, "translation")
    for extension in ("srt", "vtt"):
        write(transcript, folder / f"{stem}.{request.language}.{extension}")
        write(translation, folder / f"{stem}.{request.target_language}.{extension}")
    events = [caption.to_event() for caption in captions]
    _write_whole(folder / f"{stem}.json", json.dumps(events, ensure_ascii=False, indent=1) + "\n")


def _caption(request: Request, source: Source, chain: Chain, reference: str | None) -> int:
    options = SessionOptions(language=request.language, target_language=request.target_language)
    session = Session(chain, source.pieces, options, request.pace)
    finals: list[Caption] = []
    with _stopping_on_interrupt(session) as interrupted:
        try:
            _show(session, request, finals)
        finally:
            if request.output_dir is not None:
                save(finals, source.stem, request, request.output_dir)
    if not finals and not interrupted():
        _say(f"no speech was heard in {source.name}")
    if reference is not None:
        heard = " ".join(caption.transcript.whole for caption in finals)
        _say(f"WER {word_error_rate(reference, heard):.1%} against {request.reference}")
    return INTERRUPTED if interrupted() else 0


def _show(session: Session, request: Request, finals: list[Caption]) -> None:
    """Shows all captions as they come, and adds the final ones to ``finals``."""
    status = _Status(session, request)
    with _view(request, status) as view:
        for caption in session:
            status.last = caption
            view.show(caption)
            if caption.kind == "final":
                finals.append(caption)


class _Status:
    """Writes the status line: time, speed, model."""

    def __init__(self, session: Session, request: Request) -> None:
        self._session, self._request = session, request
        self._begin = time.monotonic()
        self.last: Caption | None = None

    def __call__(self) -> str:
        heard = self._session.heard_s
        parts = [clock(self._session.heard_samples), self._request.model]
        if self._request.pace == "fast" and heard:
            parts.append(f"RTF {(time.monotonic() - self._begin) / heard:.2f}")
        elif self.last is not None:
            parts.append(f"latency {self.last.latency.get('partial_ms', 0)} ms")
        return "   ".join([*parts, "Ctrl-C to end"])


def _view(request: Request, status: Callable[[], str]) -> View:
    if request.as_json:
        return JsonLines()
    console = _console()
    return LiveView(console, status) if console.is_terminal else PlainLines()


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False)


@contextmanager
def _stopping_on_interrupt(session: Session) -> Iterator[Callable[[], bool]]:
    """Makes the first Ctrl-C end the session's input; yields whether there was one."""
    seen = []

    def interrupt(signum: int, frame: object) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(signum)
        session.stop()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGINT, before)


def _check_languages(request: Request) -> None:
    language_name(request.language)
    language_name(request.target_language)
    if request.language == request.target_language:
        raise LanguageError(
            f"--language and --target-language are both {request.language!r}: "
            "choose another language to translate into"
        )


def _read_reference(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read the reference {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"the reference {path} is not plain UTF-8 text") from None
    if not text.strip():
        raise InputError(f"the reference {path} is empty: it should hold what is said")
    return text


def _write_whole(path: Path, text: str) -> None:
    """Writes beside ``path`` and renames, so that a reader never sees half a file."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr)
