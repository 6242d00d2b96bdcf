"""One session of `dragoman captions` with all that is around it: view, keys, recording, text file.

Between :mod:`demos.captions`, which says what is left of it at the end, and the session itself.
"""

import errno
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress

from rich.console import Console

from dragoman.demos.big import BigView
from dragoman.demos.captions_options import CaptionsOptions
from dragoman.demos.captions_source import AudioSource
from dragoman.demos.choice import Choice
from dragoman.demos.ending import HANGUP, Ending
from dragoman.demos.keeping import Kept
from dragoman.demos.listening import announce
from dragoman.demos.pausing import Pausing
from dragoman.demos.recording import Recording
from dragoman.demos.status import Status
from dragoman.demos.terminal import CaptionView, JsonLines, LiveView, PlainLines, clock
from dragoman.demos.text_file import TextFile
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.logs import logged
from dragoman.pipeline.microphone import Microphone
from dragoman.pipeline.opening import STDIN
from dragoman.pipeline.saving import Saving
from dragoman.pipeline.session import Pace, Session
from dragoman.pipeline.streams import Stream
from dragoman.stages.messages import Caption


class Showing:
    """A session that is ready to be shown; what it opens is closed with ``stack``.

    ``kept`` are its captions, ``ending`` how it was ended from outside, if so.
    """

    def __init__(
        self,
        asked: CaptionsOptions,
        source: AudioSource,
        chain: Chain,
        console: Console,
        saving: Saving | None,
        stack: ExitStack,
    ) -> None:
        self._source, self._saving, self._stack = source, saving, stack
        pace: Pace = "fast" if asked.pace == "fast" else source.pace
        on_screen = is_screen(asked, console)
        with_keys = on_screen and asked.stream != STDIN and _has_keys()
        self._pausing = Pausing(source.pieces, pace) if with_keys else None
        pieces = self._pausing or source.pieces
        if asked.record is not None:
            recording = stack.enter_context(closing(Recording(asked.record, self._warn)))
            pieces = recording.of(pieces)
        self.session = Session(
            chain,
            pieces,
            asked.session,
            self._pausing.pace if self._pausing else pace,
            frames=source.frames,
            warn=self._warn,
        )
        self.ending = stack.enter_context(Ending(self._stop))
        log = stack.enter_context(logged(asked.log, asked.log_format, source.name))
        self.kept = Kept(self.session, saving, log)
        self._choice = Choice([asked.target_language, asked.language])
        self._status = Status(self.session, asked, source.live, saving, self._pausing)
        self._view = self._viewed(asked, console)
        self._text: TextFile | None = None
        if asked.text_file is not None:
            text = TextFile(asked.text_file, self._choice, self._warn)
            self._text = stack.enter_context(text)
        if isinstance(source.live, Stream):
            source.live.warn = self._warn
        if isinstance(source.live, Microphone) and on_screen:
            announce(source.live)

    def run(self) -> None:
        """Shows all captions as they come; where the terminal is closed meanwhile, the rest is
        kept.
        """
        try:
            with ExitStack() as stack:
                if self._pausing is not None:
                    from dragoman.demos.keys import Keys

                    stack.enter_context(Keys(self._actions(self._pausing)))
                stack.enter_context(self._view)
                for caption in self.kept:
                    self._take(caption)
                    self._view.show(caption)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self.ending.end(HANGUP)
            for caption in self.kept:
                self._take(caption)

    def _take(self, caption: Caption) -> None:
        self._status.last = caption
        if self._text is not None:
            self._text.show(caption)

    def _viewed(self, asked: CaptionsOptions, console: Console) -> CaptionView:
        if asked.as_json:
            return JsonLines(console.file)
        if not is_screen(asked, console):
            return PlainLines(console.file)
        if asked.big:
            return BigView(console, self._status, self._choice)
        return LiveView(console, self._status)

    def _warn(self, message: str) -> None:
        with suppress(OSError):  # of a terminal that was closed: the session goes on
            self._view.warn(message, self.session)

    def _stop(self) -> None:
        """Ends the input: that of a microphone after what was heard, also in a pause."""
        if self._pausing is not None:
            self._pausing.stop()
        (self.session if self._source.live is None else self._source.live).stop()

    # What keys do, in their thread.

    def _actions(self, pausing: Pausing) -> Mapping[str, Callable[[], None]]:
        return {
            " ": pausing.toggle,
            "p": pausing.toggle,
            "m": self._mark,
            "t": self._choice.next,
            "q": self.ending.quit,
        }

    def _mark(self) -> None:
        at = self.session.heard_samples
        if self._saving is not None:
            self._saving.marks.append(at)
        self._warn(f"marked {clock(at)}")


def is_screen(asked: CaptionsOptions, console: Console) -> bool:
    """Whether captions are drawn, and not only printed."""
    return not asked.as_json and console.is_terminal and not console.is_dumb_terminal


def _has_keys() -> bool:
    """Whether somebody can press them: standard input is a terminal, and ours at the moment."""
    if os.name != "posix" or sys.stdin is None or not sys.stdin.isatty():
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:
        return False
