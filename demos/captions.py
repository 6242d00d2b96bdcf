"""`dragoman captions`: one session from a microphone, a stream or a file to a view and to files.

What the user asked for is checked first, cheap things before expensive ones; then the pipeline
starts, and captions run until the source ends or Ctrl-C. The first Ctrl-C ends the input: the last
words are still shown and saved. A second one does not wait for them. Once the pipeline runs SIGTERM
does the same, and SIGHUP of a closed terminal. What a microphone or a stream brought is always
saved: nobody can play it again.
"""

import errno
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from dragoman.demos.listening import announce, hearing, loss, told
from dragoman.demos.loading import bar
from dragoman.demos.score import word_error_rate
from dragoman.demos.stdout import own_stdout, say
from dragoman.demos.terminal import CaptionView, JsonLines, LiveView, PlainLines, clock
from dragoman.errors import OK, InputError
from dragoman.models import languages
from dragoman.pipeline import start as pipeline
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.devices import choose, devices
from dragoman.pipeline.formats import JSON, USUAL
from dragoman.pipeline.frames import read_frames
from dragoman.pipeline.lateness import Lateness
from dragoman.pipeline.lateness import told as told_lateness
from dragoman.pipeline.logs import check_log, logged
from dragoman.pipeline.media import read_audio
from dragoman.pipeline.microphone import Microphone
from dragoman.pipeline.outputs import guarded, make_writable
from dragoman.pipeline.saving import Saving
from dragoman.pipeline.session import Pace, Session
from dragoman.pipeline.start import check, session_options
from dragoman.pipeline.streams import RECONNECT_S, Stream
from dragoman.pipeline.word_times import Heard
from dragoman.spec import ModelSpec
from dragoman.stages.messages import Caption, Picture, SessionOptions


@dataclass(frozen=True)
class CaptionsOptions:
    """What the command line asked for: ``file``, ``stream``, which is an address or "-", or a
    microphone where both are None. ``raw_hz``: the stream is int16 samples.
    """

    file: Path | None = None
    stream: str | None = None
    raw_hz: int | None = None
    reconnect_s: float = RECONNECT_S
    microphone: str | None = None
    duration_s: float | None = None
    language: str = "es"
    target_language: str = "en"
    as_json: bool = False
    output_dir: Path | None = None
    formats: tuple[str, ...] = USUAL
    reference: Path | None = None
    pace: Pace = "real-time"
    pad_audio: bool = False
    prompt_style: str = "short"
    min_confidence: float | None = None
    endpoint_ms: int | None = None
    latency: str | None = None
    commit_policy: str | None = None
    log: Path | None = None
    log_format: str = "events"
    overwrite: bool = False
    track: int | None = None
    channel: int | None = None
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
            prompt_style=self.prompt_style,
            min_confidence=self.min_confidence,
            endpoint_ms=self.endpoint_ms,
            latency=self.latency,
            commit_policy=self.commit_policy,
        )


@dataclass(frozen=True)
class AudioSource:
    """Where audio comes from: ``name`` for screens, ``stem`` for the names of output files.

    ``folder`` is where those go, None when they are not wanted. ``live`` is what cannot be heard
    again. ``frames`` are the pictures of a video, None where there can be none.
    """

    name: str
    stem: str
    folder: Path | None
    pieces: Iterable[np.ndarray]
    live: Microphone | Stream | None = None
    frames: Iterable[Picture] | None = None

    @property
    def pace(self) -> Pace:
        """That of its own clock, "real-time" where it has none."""
        if isinstance(self.live, Stream):
            return self.live.pace
        return "real-time" if self.live is None else "live"

    def close(self) -> None:
        if self.live is not None:
            self.live.close()


def run(asked: CaptionsOptions) -> int:
    """Captions from start to end; returns the exit code, raises what the command line explains."""
    check_log(asked.log)
    check(asked.spec, asked.language, asked.target_language)
    reference = None if asked.reference is None else _read_reference(asked.reference)
    with own_stdout() as out:
        return _run(asked, reference, Console(file=out, highlight=False))


def _run(asked: CaptionsOptions, reference: str | None, console: Console) -> int:
    with closing(open_source(asked, _is_live(asked, console))) as source:
        if source.folder is not None:
            make_writable(source.folder)
        saving = _saving(asked, source)
        if saving is not None and saving.found:
            _say(saving.found)
        with closing(saving) if saving else nullcontext():
            if sys.stderr.isatty():
                say(f"loading {asked.spec.model} ...")
            with start(asked) as chain:
                return _caption(asked, source, chain, reference, console, saving)


def open_source(asked: CaptionsOptions, on_screen: bool) -> AudioSource:
    """What to listen to; raises InputError before anything expensive has begun.

    Only a screen, the live view, has a status line that tells about a microphone.
    """
    if asked.file is not None:
        name, stem = str(asked.file), asked.file.stem
        pieces = read_audio(
            asked.file, track=asked.track, language=asked.language, channel=asked.channel
        )
        frames = read_frames(asked.file)
        return AudioSource(name, stem, asked.output_dir, pieces, frames=frames)
    stem = time.strftime("captions-%Y%m%d-%H%M%S")
    if asked.stream is not None:
        stream = Stream(
            asked.stream,
            language=asked.language,
            channel=asked.channel,
            raw_hz=asked.raw_hz,
            reconnect_s=asked.reconnect_s,
            duration_s=asked.duration_s,
        )
        return AudioSource(stream.name, stem, asked.output_dir or Path(), stream, stream)
    device = choose(asked.microphone, devices())
    microphone = Microphone(device, asked.duration_s, asked.channel)
    pieces = microphone if on_screen else told(microphone)
    return AudioSource(device.name, stem, asked.output_dir or Path(), pieces, microphone)


def start(asked: CaptionsOptions) -> Chain:
    """The pipeline, as Ray actors or in this process."""
    return pipeline.start(asked.spec, ray=asked.ray, progress=None if asked.as_json else bar)


def _saving(asked: CaptionsOptions, source: AudioSource) -> Saving | None:
    """What keeps the captions, where that is wanted."""
    if source.folder is None:
        return None
    model, options, formats = asked.spec.model, asked.session, asked.formats
    if asked.file is None:
        name = source.stem
        return Saving.of_sound(source.folder, name, source.name, model, options, formats)
    return Saving.of_file(source.folder, asked.file, model, options, asked.overwrite, formats)


def _caption(
    asked: CaptionsOptions,
    source: AudioSource,
    chain: Chain,
    reference: str | None,
    console: Console,
    saving: Saving | None,
) -> int:
    live = source.live
    pace = "fast" if asked.pace == "fast" else source.pace
    session = Session(
        chain,
        source.pieces,
        asked.session,
        pace,
        frames=source.frames,
        warn=lambda message: _warn(view, session, message),
    )
    status = _Status(session, asked, live, saving)
    view = _view(asked, status, console)
    if isinstance(live, Stream):
        live.warn = partial(_warn, view, session)
    if isinstance(live, Microphone) and _is_live(asked, console):
        announce(live)
    early = ""
    with _Ending(session.stop if live is None else live.stop) as ending:
        kept = _Kept(session, saving)
        try:
            with logged(asked.log, asked.log_format, source.name) as log:
                _show(map(log, kept), view, status, ending)
            if live is None and ending.signal:
                early = f"it was ended by {ending.name} at {session.heard_s:.1f} s"
        except BaseException as error:
            early = str(error) or ending.name or type(error).__name__
            raise
        finally:
            ending.saving = True
            _finish(source, saving, session.heard_s, early)
    if _is_live(asked, console) and (line := told_lateness(kept.lateness.summary())):
        _say(line)
    if live is not None and (lost := loss(live)):
        _say(lost)
    if saving is None and (told := guarded(kept.finals)):
        _say(told)
    if not kept.finals and (live is not None or not ending.signal):
        _say(f"no speech was heard in {source.name}")
    if reference is not None:
        heard = " ".join(caption.transcript.whole for caption in kept.finals)
        measure = "WER" if languages.find(asked.language).spaced else "CER"
        _say(f"{measure} {word_error_rate(reference, heard):.1%} against {asked.reference}")
    return ending.exit_code


def _finish(source: AudioSource, saving: Saving | None, duration_s: float, early: str) -> None:
    """Gives the files their names; live sound without speech leaves none, nor does a file that was
    left before its first final caption.
    """
    if saving is None or (not saving.finals and (source.live is not None or early)):
        return
    saving.duration_s = duration_s
    lost = "" if source.live is None else loss(source.live)
    told = saving.end([lost] if lost else [], early)
    for line in (*saving.shown()[1], told):
        if line:
            _say(line)
    if source.live is not None and not told:
        codes = ",".join((saving.options.language, saving.options.target_language))
        forms = ",".join(form for form in saving.formats if form != JSON)
        path = saving.folder / saving.name
        texts = f"{path}.{{{codes}}}.{{{forms}}} and " if forms else ""
        _say(f"saved {texts}{path}.json")


class _Kept:
    """The captions of a session as they come; final ones are kept, and saved before they are given
    on.
    """

    def __init__(self, session: Session, saving: Saving | None) -> None:
        self._session, self._saving = session, saving
        self.lateness = Lateness()
        self._captions = map(self.lateness.note, map(Heard().note, session))
        self.finals: list[Caption] = []

    def __iter__(self) -> "_Kept":
        return self

    def __next__(self) -> Caption:
        caption = next(self._captions)
        if caption.kind == "final":
            self.finals.append(caption)
            if self._saving is not None:
                self._saving.add(caption, self._session.heard_s)
        return caption


def _show(kept: Iterable[Caption], view: CaptionView, status: "_Status", ending: "_Ending") -> None:
    """Shows all captions as they come; where the terminal is closed meanwhile, the rest is kept."""
    try:
        with view:
            for caption in kept:
                status.last = caption
                view.show(caption)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        ending.end(_HANGUP)
        for caption in kept:
            status.last = caption


def _warn(view: CaptionView, session: Session, message: str) -> None:
    with suppress(OSError):  # of a terminal that was closed: the session goes on
        view.warn(message, session)


class _Status:
    """Writes the status line: time, how loud live sound is, speed, model."""

    def __init__(
        self,
        session: Session,
        asked: CaptionsOptions,
        live: Microphone | Stream | None = None,
        saving: Saving | None = None,
    ) -> None:
        self._session, self._asked, self._sound = session, asked, live
        self._saving = saving
        self._begin = time.monotonic()
        self.last: Caption | None = None

    def __call__(self) -> str:
        live = self._sound
        if live is not None and live.stopped:
            return "the last words ...   Ctrl-C to end without them"
        hears = [] if live is None else hearing(live)
        parts = [clock(self._session.heard_samples), *hears, Path(self._asked.spec.model).name]
        heard = self._session.heard_s
        if self._asked.pace == "fast" and heard:
            parts.append(f"RTF {(time.monotonic() - self._begin) / heard:.2f}")
        elif self.last is not None:
            parts.append(f"latency {self.last.latency.get('partial_ms', 0)} ms")
        if self._saving is not None and self._saving.problem:
            parts.append(self._saving.problem)
        return "   ".join([*parts, "Ctrl-C to end"])


def _is_live(asked: CaptionsOptions, console: Console) -> bool:
    return not asked.as_json and console.is_terminal


def _view(asked: CaptionsOptions, status: Callable[[], str], console: Console) -> CaptionView:
    if _is_live(asked, console):
        return LiveView(console, status)
    return JsonLines(console.file) if asked.as_json else PlainLines(console.file)


_HANGUP = getattr(signal, "SIGHUP", signal.SIGTERM)  # Windows has no closed terminals


class _Ending:
    """Makes the first Ctrl-C, SIGTERM or SIGHUP call ``stop``, which ends the input; a second one
    raises KeyboardInterrupt, but for what comes while files are being written. A SIGHUP that is
    ignored, as under nohup, stays so.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop, self._before = stop, {}
        self.signal: int | None = None  # the first one
        self.saving = False

    def __enter__(self) -> "_Ending":
        for number in {signal.SIGINT, signal.SIGTERM, _HANGUP}:
            if number == _HANGUP and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._before[number] = signal.signal(number, lambda number, frame: self.end(number))
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def end(self, number: int) -> None:
        if self.signal is not None and number != _HANGUP and not self.saving:
            raise KeyboardInterrupt
        if self.signal is None:
            self.signal = number
            self._stop()

    @property
    def name(self) -> str:
        if self.signal is None:
            return ""
        return "Ctrl-C" if self.signal == signal.SIGINT else signal.Signals(self.signal).name

    @property
    def exit_code(self) -> int:
        """As a shell tells it: 128 and the signal's number."""
        return OK if self.signal is None else 128 + self.signal


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


def _say(line: str) -> None:
    with suppress(OSError):  # of a terminal that was closed
        say(line)
