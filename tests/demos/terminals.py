"""A real terminal for tests: a program in it, the keys that somebody presses, what is on it."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import PATIENCE_S, eventually

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
    import sys
    from dragoman.demos import captions, cli
    from tests.pipeline.chains import in_process
    from tests.pipeline.fake_stages import fakes
    captions.start = lambda request: in_process(fakes())
    sys.exit(cli.main(["captions", *sys.argv[1:]]))
"""


class Terminal:
    """`dragoman captions`, with stages of no model, in a terminal of its own."""

    def __init__(self, *args: object, columns=80, rows=24, out: int | None = None, **env) -> None:
        self._ours, self._theirs = pty.openpty()
        self.resize(columns, rows)
        self.before = self.mode()
        self.written = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), *map(str, args)],
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm-256color", **env},
            stdin=self._theirs,
            stdout=self._theirs if out is None else out,
            stderr=self._theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._ours, 65_536):
                self.written += data
        except OSError:
            pass

    @property
    def text(self) -> str:
        return self.written.decode("utf-8", "replace")

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def mode(self) -> list:
        return termios.tcgetattr(self._theirs)

    def reset(self) -> None:
        """What a shell does when a program stops."""
        termios.tcsetattr(self._theirs, termios.TCSANOW, self.before)

    @property
    def gives_keys(self) -> bool:
        """Whether programs get keys at once, and without an echo."""
        return not self.mode()[3] & (termios.ICANON | termios.ECHO)

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def until(self, said: str, after: int = 0) -> int:
        """Waits until ``said`` is written behind the place ``after``; the place behind it."""
        eventually(lambda: said in self.text[after:])
        return self.text.index(said, after) + len(said)

    def end(self) -> int:
        code = self.process.wait(PATIENCE_S)
        eventually(lambda: self.mode() == self.before)
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._theirs)
        self._reader.join(PATIENCE_S)
        os.close(self._ours)


@contextmanager
def terminal(*args: object, **options) -> Iterator[Terminal]:
    opened = Terminal(*args, **options)
    try:
        yield opened
    finally:
        opened.close()
