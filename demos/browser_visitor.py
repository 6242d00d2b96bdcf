"""One open page: what its visitor chose, said, sent and shared.

Below :mod:`demos.browser_visitors`, which keeps it as long as that costs little. What a page may
download or play is named, not a path: files are found among those that belong to it.
"""

import os
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dragoman.demos.browser_live import Live
from dragoman.demos.browser_recorded import Recorded
from dragoman.demos.browser_runs import PageSession
from dragoman.demos.browser_video import Video
from dragoman.errors import InputError, SessionError
from dragoman.server.streams import Bell, Transcript
from dragoman.stages.messages import Caption, SessionOptions

CLOSED_S = 15.0  # a page that is loaded again is back by then
PAGES = 8  # with one key, as a tab that was duplicated has it
IDLE_S = 180.0  # browsers let a hidden page ask once a minute
KEPT_S = 3_600.0  # a transcript
ROOM_BYTES = 2**30  # of the disk, that uploads and sound leave free

Tell = Callable[[Caption], None]
# Begin a session on sound, and on a file, with the options that were chosen.
Listen = Callable[[Iterable[np.ndarray], SessionOptions, Tell], PageSession]
Watch = Callable[[Path, SessionOptions], Video]


class Full(SessionError):
    """There is no room for more; it may be tried again later."""


class Shared:
    """A transcript that viewers follow by ``key``, a name of its own, until it ends."""

    def __init__(self, transcript: Transcript) -> None:
        self.key = secrets.token_urlsafe(12)
        self.transcript, self.bell, self.done = transcript, Bell(), False
        self.moved = False  # a page stays at its server

    def end(self) -> None:
        self.done = True
        self.bell.ring()


class Visitor:
    """One open page; ``folder`` holds what it may download or play, ``options`` are those of its
    next recording or file.
    """

    def __init__(self, folder: Path, options: SessionOptions, listen: Listen, watch: Watch) -> None:
        folder.mkdir(parents=True)
        self.key = secrets.token_urlsafe(24)
        self.folder = folder
        self.options = options
        self.shared: Shared | None = None
        self.live = Live(self._listen, self._record, self._told)
        self.video: Video | None = None
        self.videos = 0  # so far; tells a page that what it has is of another file
        self.seen_at = time.monotonic()
        self.closed = False  # every page that had the key
        self._sessions, self._watch = listen, watch
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
        if not self._has_room(size):
            raise Full(f"the disk of this machine has no room for {size / 2**20:.0f} MB more")

    def _has_room(self, size: int) -> bool:
        return shutil.disk_usage(self.folder).free - size >= ROOM_BYTES

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
            video = self._watch(media, self.options)
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

    def share(self) -> Shared:
        """What viewers may follow; made in the event loop."""
        if self.shared is None:
            self.shared = Shared(self.live.viewers)
        return self.shared

    def unshare(self) -> None:
        """Ends the link; whoever follows it is told."""
        shared, self.shared = self.shared, None
        if shared is not None:
            shared.end()

    def _listen(self, pieces: Iterable[np.ndarray], tell: Tell) -> PageSession:
        return self._sessions(pieces, self.options, tell)

    def _record(self) -> Recorded:
        return Recorded(self.folder / f"{secrets.token_hex(4)}.pcm", self._has_room)

    def _told(self) -> None:
        shared = self.shared  # which another thread may end meanwhile
        if shared is not None:
            shared.bell.ring()

    def close(self) -> None:
        self.unshare()
        self.live.close()
        self.close_video()
        shutil.rmtree(self.folder, ignore_errors=True)


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
