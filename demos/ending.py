"""How a live session is ended from outside: Ctrl-C, SIGTERM, a key, and a
terminal that is closed."""

import os
import signal
from collections.abc import Callable

from dragoman.errors import OK

HANGUP = getattr(signal, "SIGHUP", signal.SIGTERM)  # Windows has no closed terminals


class Ending:
    """Makes the first Ctrl-C, SIGTERM or SIGHUP call ``stop``, which ends the input; a second one
    raises KeyboardInterrupt, but for what comes while files are being written. A SIGHUP that is
    ignored, as under nohup, stays so.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop, self._before = stop, {}
        self._signal: int | None = None  # the first one
        self.name = ""  # of what ended the input
        self.saving = False

    def __enter__(self) -> "Ending":
        for number in {signal.SIGINT, signal.SIGTERM, HANGUP}:
            if number == HANGUP and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._before[number] = signal.signal(number, lambda number, frame: self.end(number))
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def end(self, number: int) -> None:
        if self.name:
            if number != HANGUP and not self.saving:
                raise KeyboardInterrupt
            return
        self._signal = number
        self._begin("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)

    def quit(self) -> None:
        """Ends the input as the first Ctrl-C does, for who has asked for it by a key, in any
        thread; who asks again does not wait for the last words.
        """
        if self.name:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            self._begin("a key")

    def _begin(self, name: str) -> None:
        self.name = name
        self._stop()

    @property
    def exit_code(self) -> int:
        """As a shell tells it: 128 and the signal's number; of no signal OK."""
        return OK if self._signal is None else 128 + self._signal
