"""Who looks at the page: each visitor's sessions and files, kept apart and given up when a tab
closes.

A tab is known by the name that Gradio gives it. A connection that breaks looks like a closed
tab, so a visitor is given up a while later, and not if the tab has asked for something since.
"""

import hashlib
import hmac
import os
import secrets
import shutil
import threading
import time
from pathlib import Path

from dragoman.demos.browser_runs import Live
from dragoman.demos.browser_video import Video
from dragoman.errors import InputError
from dragoman.pipeline.chain import Chain
from dragoman.stages.messages import SessionOptions

GRACE_S = 5.0
QUIET_TICKS_S = 2.0  # a timer that has not asked for so long is asleep


class Visitor:
    """One open tab; ``folder`` holds what it may download or play."""

    def __init__(self, chain: Chain, options: SessionOptions, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.live = Live(chain, options)
        self.video: Video | None = None
        self.seen_at = time.monotonic()
        self.ticked_at = -QUIET_TICKS_S
        self.shown = ""  # what its Live tab shows
        self._chain, self._options = chain, options

    @property
    def asleep(self) -> bool:
        """Whether its page does not ask for captions any more."""
        return time.monotonic() - self.ticked_at > QUIET_TICKS_S

    def open_video(self, source: Path, name: str) -> Video:
        """Begins a file in place of the one before; raises InputError for a file without sound."""
        self.close_video()
        folder = self.folder / secrets.token_hex(4)
        folder.mkdir()
        media = folder / name
        try:
            os.link(source, media)  # the page's own copy of an upload goes away after a while
        except OSError:
            shutil.copyfile(source, media)
        try:
            self.video = Video(self._chain, media, self._options)
        except InputError as error:
            shutil.rmtree(folder)
            raise InputError(str(error).replace(str(media), name)) from None
        return self.video

    def close_video(self) -> None:
        if self.video is not None:
            self.video.run.leave()
            shutil.rmtree(self.video.media.parent, ignore_errors=True)
            self.video = None

    def close(self) -> None:
        self.live.clear()
        self.close_video()
        shutil.rmtree(self.folder, ignore_errors=True)


class Visitors:
    """All open tabs, on one shared chain."""

    def __init__(self, chain: Chain, options: SessionOptions, folder: Path) -> None:
        self.options = options
        self.model = chain.model
        self._chain, self._folder = chain, folder
        self._open: dict[str, Visitor] = {}
        self._lock = threading.Lock()
        self._secret = secrets.token_bytes(16)

    def __len__(self) -> int:
        return len(self._open)

    def get(self, tab: str) -> Visitor:
        """The visitor of a tab, new if need be."""
        with self._lock:
            if tab not in self._open:
                folder = self._folder / secrets.token_urlsafe(16)
                self._open[tab] = Visitor(self._chain, self.options, folder)
            self._open[tab].seen_at = time.monotonic()
            return self._open[tab]

    def key(self, tab: str) -> str:
        """What a page names itself by where Gradio does not do it; nobody can make one up."""
        return f"{tab}.{hmac.new(self._secret, tab.encode(), hashlib.sha256).hexdigest()}"

    def of_key(self, key: str) -> Visitor | None:
        """The visitor who was given ``key``; None when nobody was."""
        tab = key.rpartition(".")[0]
        return self.get(tab) if hmac.compare_digest(self.key(tab), key) else None

    def left(self, tab: str) -> None:
        """The tab seems to be closed."""
        timer = threading.Timer(GRACE_S, self._forget, (tab, time.monotonic()))
        timer.daemon = True
        timer.start()

    def close(self) -> None:
        """Gives up all."""
        with self._lock:
            visitors, self._open = list(self._open.values()), {}
        for visitor in visitors:
            visitor.close()

    def _forget(self, tab: str, left_at: float) -> None:
        with self._lock:
            visitor = self._open.get(tab)
            if visitor is None:
                return
            back = visitor.seen_at > left_at
            if not back:
                del self._open[tab]
        if back:
            self.left(tab)
        else:
            visitor.close()
