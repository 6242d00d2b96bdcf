"""A live session that another process has, as its journal tells of it: for viewers who ask here.

Beside :mod:`server.speaker`, for :mod:`server.viewers`. What it shows is what was committed: the
journal has no tails that changed nothing. It costs a thread that looks for new lines, however many
watch, and ends with the session.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

from dragoman.server.journal import caption_of, follow
from dragoman.server.runs import Run
from dragoman.server.settings import Settings
from dragoman.server.streams import Bell
from dragoman.stages.messages import Caption, SessionOptions


class Follower:
    """The session in ``folder``, in which ``options`` are those that it began with; made in the
    event loop.
    """

    def __init__(self, folder: Path, options: SessionOptions) -> None:
        self.options = options
        self._folder, self._left = folder, threading.Event()
        self.run = Run(self._captions(), Bell())

    def leave(self) -> None:
        """Follows no longer."""
        self._left.set()

    def _captions(self) -> Iterator[Caption]:
        for record in follow(self._folder, self._left):
            if record["do"] == "captioned":
                yield caption_of(record["caption"])
            elif "settings" in record:
                self.options = Settings.of(record["settings"]).options
