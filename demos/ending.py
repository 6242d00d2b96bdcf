"""How a live session is ended from outside: Ctrl-C, SIGTERM, and a terminal that is closed."""

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
        self.signal: int | None = None  # the first one
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
        if self.signal is not None and number != HANGUP and not self.saving:
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
