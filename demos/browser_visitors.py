"""Who looks at the page: all its visitors, kept apart and given up in time.

A page is known by a key that it was given when it was opened, and that nobody can guess; it keeps
the key when it is loaded again.

What is unusual: a page that is closed says so, one whose connection breaks does not. So a visitor
is kept as long as that costs little: an hour with a transcript, minutes without, and so many. And
what a browser sends at the end of a page comes in any order, also after the next page has begun: so
each page that has the key has a number, and says goodbye by that alone.
"""

import secrets
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dragoman.demos.browser_choices import Choices
from dragoman.demos.browser_runs import PageSession
from dragoman.demos.browser_video import Video
from dragoman.demos.browser_visitor import Full, Shared, Tell, Visitor
from dragoman.models import hub
from dragoman.pipeline.chain import Chain
from dragoman.server.refusals import Refusal
from dragoman.stages.messages import SessionOptions

SWEEP_S = 1.0
VISITORS = 100
RECORDINGS_AT_ONCE = 16
VIDEOS_AT_ONCE = 2


class Visitors:
    """All open pages, on one shared chain."""

    def __init__(
        self,
        chain: Chain,
        options: SessionOptions,
        folder: Path,
        choices: Choices | None = None,
    ) -> None:
        self.options = options
        self.model = chain.model
        self.choices = choices or Choices.of(chain.model, hub.here(chain.model))
        self._chain, self._folder = chain, folder
        self._open: dict[str, Visitor] = {}
        self._lock = threading.Lock()
        self._recordings = threading.Semaphore(RECORDINGS_AT_ONCE)
        self._videos = threading.Semaphore(VIDEOS_AT_ONCE)
        self._over = threading.Event()
        threading.Thread(target=self._sweep, name="visitors", daemon=True).start()

    def __len__(self) -> int:
        return len(self._open)

    def get(self, key: str) -> Visitor | None:
        """The visitor who was given ``key``; None when nobody was, or it was given up."""
        with self._lock:
            visitor = self._open.get(key)
            if visitor is not None:
                visitor.touch()
            return visitor

    def new(self) -> Visitor:
        """One more; where there are too many, the one goes that has nothing to lose and was not
        seen for the longest time. Raises Full.
        """
        folder, unseen = self._folder / secrets.token_hex(8), None
        visitor = Visitor(folder, self.options, self._listen, self._watch)
        with self._lock:
            if len(self._open) >= VISITORS:
                idle = [other for other in self._open.values() if other.is_idle]
                unseen = min(idle, key=lambda other: other.seen_at, default=None)
                if unseen is not None:
                    del self._open[unseen.key]
            if full := len(self._open) >= VISITORS:
                unseen = visitor
            else:
                self._open[visitor.key] = visitor
        if unseen is not None:
            unseen.close()
        if full:
            raise Full(f"{VISITORS} pages are open here: try again later")
        return visitor

    def _listen(
        self,
        pieces: Iterable[np.ndarray],
        options: SessionOptions,
        tell: Tell,
    ) -> PageSession:
        """A session on the sound of a recording; ``tell`` hears of its captions."""
        return PageSession(self._chain, pieces, options, "live", self._recordings, tell=tell)

    def _watch(self, media: Path, options: SessionOptions) -> Video:
        """A session on a file; raises InputError."""
        return Video(self._chain, media, options, self._videos)

    async def watched(self, key: str) -> tuple[Shared, tuple[str, str]]:
        """What was shared by ``key``, and its languages; raises Refusal."""
        with self._lock:
            for visitor in self._open.values():
                shared, options = visitor.shared, visitor.options
                if shared is not None and shared.key == key:
                    return shared, (options.language, options.target_language)
        raise Refusal(404, "session_not_found", "nobody speaks here any more: ask for a new link")

    def close(self) -> None:
        """Gives up all."""
        self._over.set()
        with self._lock:
            visitors, self._open = list(self._open.values()), {}
        for visitor in visitors:
            visitor.close()

    def _sweep(self) -> None:
        while not self._over.wait(SWEEP_S):
            now = time.monotonic()
            with self._lock:
                gone = [v for v in self._open.values() if now - v.seen_at > v.patience_s]
                for visitor in gone:
                    del self._open[visitor.key]
            for visitor in gone:
                visitor.close()
