"""`dragoman captions`: one session from a microphone or a file to a view and to files.

What the user asked for is checked first, cheap things before expensive ones; then the pipeline
starts, and captions run until the source ends or Ctrl-C. The first Ctrl-C ends the input: the last
words are still shown and saved. A second one does not wait for them. What a microphone heard is
always saved: nobody can play it again.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from dragoman.demos.listening import announce, hearing, loss, told
from dragoman.demos.loading import bar
from dragoman.demos.score import word_error_rate
from dragoman.demos.stdout import own_stdout
from dragoman.demos.terminal import JsonLines, LiveView, PlainLines, View, clock
from dragoman.errors import INTERRUPTED, InputError
from dragoman.pipeline import start as pipeline
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.devices import choose, devices
from dragoman.pipeline.formats import USUAL
from dragoman.pipeline.frames import read_frames
from dragoman.pipeline.media import read_audio
from dragoman.pipeline.microphone import Microphone
from dragoman.pipeline.outputs import confident, document, planned, save
from dragoman.pipeline.session import Pace, Session
from dragoman.pipeline.start import check, session_options
from dragoman.spec import ModelSpec
from dragoman.stages.messages import Caption, Picture, SessionOptions


@dataclass(frozen=True)
class CaptionsOptions:
    """What the command line asked for: ``file``, or a microphone where that is None."""

    file: Path | None = None
    microphone: str | None = None
    duration_s: float | None = None
    language: str = "es"
    target_language: str = "en"
    as_json: bool = False
    output_dir: Path | None = None
    reference: Path | None = None
    pace: Pace = "real-time"
    pad_audio: bool = False
    min_confidence: float | None = None
    spec: ModelSpec = ModelSpec()
    ray: bool = True

    @property
    def session(self) -> SessionOptions:
        """What its session asks for."""
        return session_options(
            self.spec,
            language=self.language,
            target_language=self.target_language,
            pad_audio=self.pad_audio,
            min_confidence=self.min_confidence,
        )


@dataclass(frozen=True)
class AudioSource:
    """Where audio comes from: ``name`` for screens, ``stem`` for the names of output files.

    ``folder`` is where those go, None when they are not wanted. ``frames`` are the pictures of a
    video, None where there can be none.
    """

    name: str
    stem: str
    folder: Path | None
    pieces: Iterable[np.ndarray]
    microphone: Microphone | None = None
    frames: Iterable[Picture] | None = None

    def close(self) -> None:
        if self.microphone is not None:
            self.microphone.close()


def run(asked: CaptionsOptions) -> int:
    """Captions from start to end; returns the exit code, raises what the command line explains."""
    check(asked.spec, asked.language, asked.target_language)
    reference = None if asked.reference is None else _read_reference(asked.reference)
    with own_stdout() as out:
        return _run(asked, reference, Console(file=out, highlight=False))


def _run(asked: CaptionsOptions, reference: str | None, console: Console) -> int:
    with closing(open_source(asked, _is_live(asked, console))) as source:
        if source.folder is not None:
            _make_writable(source.folder)
        if sys.stderr.isatty():
            print(f"loading {asked.spec.model} ...", file=sys.stderr)
        with start(asked) as chain:
            return _caption(asked, source, chain, reference, console)


def open_source(asked: CaptionsOptions, on_screen: bool) -> AudioSource:
    """What to listen to; raises InputError before anything expensive has begun.

    Only a screen, the live view, has a status line that tells about a microphone.
    """
    if asked.file is not None:
        name, stem = str(asked.file), asked.file.stem
        pieces = read_audio(asked.file, language=asked.language)
        frames = read_frames(asked.file)
        return AudioSource(name, stem, asked.output_dir, pieces, frames=frames)
    device = choose(asked.microphone, devices())
    microphone = Microphone(device, asked.duration_s)
    stem = time.strftime("captions-%Y%m%d-%H%M%S")
    pieces = microphone if on_screen else told(microphone)
    return AudioSource(device.name, stem, asked.output_dir or Path(), pieces, microphone)


def start(asked: CaptionsOptions) -> Chain:
    """The pipeline, as Ray actors or in this process."""
    return pipeline.start(asked.spec, ray=asked.ray, progress=None if asked.as_json else bar)


def _caption(
    asked: CaptionsOptions,
    source: AudioSource,
    chain: Chain,
    reference: str | None,
    console: Console,
) -> int:
    microphone = source.microphone
    pace = asked.pace if microphone is None else "live"
    session = Session(chain, source.pieces, asked.session, pace, frames=source.frames)
    status = _Status(session, asked, microphone)
    finals: list[Caption] = []
    stop = session.stop if microphone is None else microphone.stop
    if microphone is not None and _is_live(asked, console):
        announce(microphone)
    with _stopping_on_interrupt(stop) as interrupted:
        try:
            _show(session, _view(asked, status, console), status, finals)
        finally:
            _save_all(finals, source, asked, session.heard_s)
    if microphone is not None and (lost := loss(microphone)):
        _say(lost)
    if not finals and (microphone is not None or not interrupted()):
        _say(f"no speech was heard in {source.name}")
    if reference is not None:
        heard = " ".join(caption.transcript.whole for caption in finals)
        _say(f"WER {word_error_rate(reference, heard):.1%} against {asked.reference}")
    return INTERRUPTED if interrupted() else 0


def _save_all(
    finals: list[Caption], source: AudioSource, asked: CaptionsOptions, duration_s: float
) -> None:
    """Saves where that is wanted; a microphone that heard no speech leaves no files."""
    if source.folder is None or not (finals or source.microphone is None):
        return
    name = source.name if asked.file is None else asked.file.name
    lost = "" if source.microphone is None else loss(source.microphone)
    shown, unsure = confident(finals, asked.session, asked.spec.model)
    warnings = [warning for warning in (lost, unsure) if warning]
    form = document(name, asked.spec.model, asked.session, duration_s, finals, warnings)
    outputs = planned(source.stem, asked.session, USUAL, bilingual=False)
    save(outputs, source.folder, shown, form)
    if unsure:
        _say(unsure)
    if source.microphone is not None:
        languages = ",".join((asked.language, asked.target_language))
        path = source.folder / source.stem
        _say(f"saved {path}.{{{languages}}}.{{srt,vtt}} and {path}.json")


def _show(session: Session, view: View, status: "_Status", finals: list[Caption]) -> None:
    """Shows all captions as they come, and adds the final ones to ``finals``."""
    with view:
        for caption in session:
            status.last = caption
            view.show(caption)
            if caption.kind == "final":
                finals.append(caption)


class _Status:
    """Writes the status line: time, how loud the microphone is, speed, model."""

    def __init__(
        self, session: Session, asked: CaptionsOptions, microphone: Microphone | None = None
    ) -> None:
        self._session, self._asked, self._microphone = session, asked, microphone
        self._begin = time.monotonic()
        self.last: Caption | None = None

    def __call__(self) -> str:
        microphone = self._microphone
        if microphone is not None and microphone.stopped:
            return "the last words ...   Ctrl-C to end without them"
        hears = [] if microphone is None else hearing(microphone)
        parts = [clock(self._session.heard_samples), *hears, Path(self._asked.spec.model).name]
        heard = self._session.heard_s
        if self._asked.pace == "fast" and heard:
            parts.append(f"RTF {(time.monotonic() - self._begin) / heard:.2f}")
        elif self.last is not None:
            parts.append(f"latency {self.last.latency.get('partial_ms', 0)} ms")
        return "   ".join([*parts, "Ctrl-C to end"])


def _is_live(asked: CaptionsOptions, console: Console) -> bool:
    return not asked.as_json and console.is_terminal


def _view(asked: CaptionsOptions, status: Callable[[], str], console: Console) -> View:
    if _is_live(asked, console):
        return LiveView(console, status)
    return JsonLines(console.file) if asked.as_json else PlainLines(console.file)


@contextmanager
def _stopping_on_interrupt(stop: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Makes the first Ctrl-C call ``stop``, which ends the input; yields whether there was one."""
    seen = []

    def interrupt(signum: int, frame: object) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(signum)
        stop()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGINT, before)


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


def _make_writable(folder: Path) -> None:
    """Makes ``folder``; raises OSError now rather than after an hour of speech."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK) else " (it cannot be written to)"
    except OSError as error:
        reason = f" ({error.strerror})"
    if os.path.isfile(folder):
        reason = " (it is a file)"
    if reason:
        raise OSError(
            f"captions cannot be saved in {folder.absolute()}{reason}: choose a folder with -o"
        )


def _say(line: str) -> None:
    print(line, file=sys.stderr)
