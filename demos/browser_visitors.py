"""Who looks at the page: each visitor's sessions and files, kept apart and given up in time.

A page is known by a key that it was given when it was opened, and that nobody can guess; it keeps
the key when it is loaded again. What it may download or play is named, not a path: files are found
among those that belong to it.

What is unusual: a page that is closed says so, one whose connection breaks does not. So a visitor
is kept as long as that costs little: an hour with a transcript, minutes without, and so many. And
what a browser sends at the end of a page comes in any order, also after the next page has begun: so
each page that has the key has a number, and says goodbye by that alone.
"""

import os
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dragoman.demos.browser_live import Live
from dragoman.demos.browser_runs import PageSession
from dragoman.demos.browser_video import Video
from dragoman.errors import InputError, SessionError
from dragoman.pipeline.chain import Chain
from dragoman.server.feed import Feed
from dragoman.stages.messages import SessionOptions

CLOSED_S = 15.0  # a page that is loaded again is back by then
PAGES = 8  # with one key, as a tab that was duplicated has it
IDLE_S = 180.0  # browsers let a hidden page ask once a minute
KEPT_S = 3_600.0  # a transcript
SWEEP_S = 1.0
VISITORS = 100
RECORDINGS_AT_ONCE = 16
VIDEOS_AT_ONCE = 2
ROOM_BYTES = 2**30  # of the disk, that uploads leave free


class Full(SessionError):
    """There is no room for more; it may be tried again later."""


class Visitor:
    """One open page; ``folder`` holds what it may download or play."""

    def __init__(self, visitors: "Visitors", folder: Path) -> None:
        folder.mkdir(parents=True)
        self.key = secrets.token_urlsafe(24)
        self.folder = folder
        self.live = Live(lambda feed: visitors.listen(feed))
        self.video: Video | None = None
        self.videos = 0  # so far; tells a page that what it has is of another file
        self.seen_at = time.monotonic()
        self.closed = False  # every page that had the key
        self._visitors = visitors
        self._pages: deque[int] = deque(maxlen=PAGES)
        self._entered = 0
        self._lock = threading.RLock()

    @property
    def patience_s(self) -> float:
        """How long it is kept without a sign of life."""
        if self.closed:
            return CLOSED_S
        return IDLE_S if self.is_idle else KEPT_S

    @property
    def is_idle(self) -> bool:
        """Whether nothing is lost with it."""
        return self.live.is_empty and self.video is None

    def touch(self) -> None:
        """It is there."""
        self.seen_at = time.monotonic()

    def enter(self) -> int:
        """A page was opened, or loaded again; its number."""
        with self._lock:
            self.closed = False
            self._entered += 1
            self._pages.append(self._entered)
            return self._entered

    def leave(self, page: int) -> None:
        """The page of that number was closed; with the last one recording stops."""
        with self._lock:
            if page not in self._pages:
                return
            self._pages.remove(page)
            if not self._pages:
                self.closed = True
                self.live.stop()

    def files(self, number: int) -> dict[str, Path]:
        """What belongs to its file ``number``, by name."""
        video = self.video
        if video is None or number != self.videos:
            return {}
        pictures = [path for _, path in video.pictures()]
        return {path.name: path for path in (video.media, *(video.saved or ()), *pictures)}

    def check_room(self, size: int) -> None:
        """Raises Full where ``size`` more bytes would fill the disk."""
        if shutil.disk_usage(self.folder).free - size < ROOM_BYTES:
            raise Full(f"the disk of this machine has no room for {size / 2**20:.0f} MB more")

    @contextmanager
    def receiving(self, name: str, size: int) -> Iterator[Path]:
        """Where a file of ``size`` bytes is to be written; raises Full where the disk is."""
        self.check_room(size)
        folder = self.folder / secrets.token_hex(4)
        folder.mkdir()
        media = folder / _plain(name)
        try:
            yield media
        finally:
            if self.video is None or self.video.media != media:
                shutil.rmtree(folder, ignore_errors=True)

    def open_video(self, media: Path) -> None:
        """Begins a file in place of the one before; raises InputError for a file without sound."""
        self.close_video()
        try:
            video = self._visitors.watch(media)
        except InputError as error:
            raise InputError(str(error).replace(str(media), media.name)) from None
        self._put(video)

    def close_video(self, number: int | None = None) -> None:
        """Gives up its file, if it is ``number`` or that is None."""
        with self._lock:
            if number in (None, self.videos):
                self._put(None)

    def _put(self, next_one: Video | None) -> None:
        """Takes ``next_one`` in place of the file that it has, which is given up."""
        with self._lock:
            video, self.video = self.video, next_one
            self.videos += next_one is not None
        if video is not None:
            video.run.leave()
            shutil.rmtree(video.media.parent, ignore_errors=True)

    def close(self) -> None:
        self.live.clear()
        self.close_video()
        shutil.rmtree(self.folder, ignore_errors=True)


class Visitors:
    """All open pages, on one shared chain."""

    def __init__(self, chain: Chain, options: SessionOptions, folder: Path) -> None:
        self.options = options
        self.model = chain.model
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
        visitor, unseen = Visitor(self, self._folder / secrets.token_hex(8)), None
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

    def listen(self, feed: Feed) -> PageSession:
        """A session on the sound of a recording."""
        return PageSession(self._chain, feed, self.options, "live", self._recordings)

    def watch(self, media: Path) -> Video:
        """A session on a file; raises InputError."""
        return Video(self._chain, media, self.options, self._videos)

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


def link(source: Path, media: Path) -> None:
    """Makes ``media`` another name of ``source``, or a copy where the disk is another."""
    try:
        os.link(source, media)
    except OSError:
        shutil.copyfile(source, media)


def _plain(name: str) -> str:
    """A file's name without a path, control characters, or more letters than disks take."""
    base = "".join(letter for letter in Path(name).name if letter.isprintable())
    stem, suffix = Path(base).stem[:60], Path(base).suffix[:10]
    return f"{stem or 'file'}{suffix}"
