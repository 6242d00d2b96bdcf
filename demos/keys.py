"""Keys that are pressed while captions run, read from the terminal one by one.

Beside the live view. What is unusual: a terminal gives keys at once only while that is set, for all
programs in it, so however the session ends it is set back: with an error, by a signal, when the
program is stopped and continued (Ctrl-Z, fg). Only POSIX has such terminals.
"""

import atexit
import contextlib
import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Mapping


class Keys:
    """Calls what ``actions`` has for a key, in a thread, while the context lasts."""

    def __init__(self, actions: Mapping[str, Callable[[], None]]) -> None:
        self._actions, self._terminal = actions, sys.stdin.fileno()
        self._over, self._end = os.pipe()
        self._thread = threading.Thread(target=self._read, name="keys", daemon=True)

    def __enter__(self) -> "Keys":
        self._before = termios.tcgetattr(self._terminal)
        atexit.register(self._restore)
        self._handler = signal.signal(signal.SIGCONT, lambda *_: self._set())
        self._set()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._end)
        self._thread.join()
        os.close(self._over)
        signal.signal(signal.SIGCONT, self._handler)
        self._restore()
        atexit.unregister(self._restore)

    def _set(self) -> None:
        with contextlib.suppress(termios.error):  # of a terminal that was closed
            tty.setcbreak(self._terminal)  # Ctrl-C stays a signal

    def _restore(self) -> None:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._before)

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._terminal, self._over], [], [])
            if self._over in ready:
                return
            try:
                pressed = os.read(self._terminal, 1)
            except OSError:
                return
            if not pressed:
                return
            self._actions.get(pressed.decode("latin-1").lower(), _nothing)()


def _nothing() -> None:
    pass
