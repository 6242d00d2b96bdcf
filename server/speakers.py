"""The live sessions of a server: begun, found again, and ended when nobody comes back.

Between :mod:`server.realtime`, :mod:`server.viewers` and :mod:`server.speaker`. A session without a
connection is kept for a while, unless its place is wanted. Where there is a folder for it, one that
another process had begun is found there.
"""

import asyncio
import re
import secrets
import shutil
import time
from contextlib import suppress

from starlette.concurrency import run_in_threadpool

from dragoman.server.hub import Hub
from dragoman.server.journal import Journal
from dragoman.server.refusals import Refusal
from dragoman.server.runs import Run
from dragoman.server.settings import Settings
from dragoman.server.speaker import Speaker

SWEEP_S = 1.0
ID = re.compile(r"sess_[A-Za-z0-9_-]{24}")  # it is the name of a folder


class Speakers:
    """All live sessions of ``hub``; used in the event loop only."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._known: dict[str, Speaker] = {}  # by the name that who speaks knows
        self._finding = asyncio.Lock()

    async def begin(self, kind: str, settings: Settings) -> Speaker:
        """One more; raises Refusal where all places are taken by sessions that are connected."""
        id, key, now = f"sess_{secrets.token_urlsafe(18)}", secrets.token_urlsafe(12), time.time()
        about = {
            "id": id,
            "created": int(now),
            "expires_at": int(now + self._hub.limits.session_s),
            "viewers": f"/captions/{key}",
        }
        speaker = await self._new(about, key, kind, settings)
        if self._hub.state is not None:
            journal = await run_in_threadpool(Journal, self._hub.state / id)
            await run_in_threadpool(speaker.keep, journal, kind)
        return speaker

    async def find(self, id: str) -> Speaker:
        """The session that who speaks calls ``id``; raises Refusal."""
        async with self._finding:
            await self._look(id)
        if id not in self._known:
            raise Refusal(
                404, "session_not_found",
                "there is no such session, or not any more: begin a new one", "session",
            )  # fmt: skip
        return self._known[id]

    def watched(self, key: str) -> tuple[Run, tuple[str, str]]:
        """The session that viewers call ``key``, and its languages; raises Refusal."""
        for speaker in self._known.values():
            if speaker.key == key:
                options = speaker.dialect.settings.options
                return speaker.run, (options.language, options.target_language)
        raise Refusal(
            404, "session_not_found", "nobody speaks here any more: ask for a new link", "session"
        )

    async def sweep(self) -> None:
        """Ends what nobody came back to, for as long as the server runs."""
        while True:
            now, kept_s = time.monotonic(), self._hub.limits.resume_s
            for id, speaker in list(self._known.items()):
                if speaker.connection is None and now - speaker.left_at > kept_s:
                    await run_in_threadpool(self._known.pop(id).give_up)
            await run_in_threadpool(self._forget_old)
            waiting = [speaker.waiting_s for speaker in self._known.values()]
            self._hub.metrics.waiting_s.set(sum(waiting))
            self._hub.metrics.lag_s.set(max(waiting, default=0))
            await asyncio.sleep(SWEEP_S)

    def close(self) -> None:
        """Ends all. What is on disk stays for the process that takes this one's place."""
        for speaker in self._known.values():
            speaker.leave_to_another()

    async def _look(self, id: str) -> None:
        """Takes over the session ``id`` if another process has left it here; raises Refusal."""
        state = self._hub.state
        if id in self._known or state is None or not ID.fullmatch(id):
            return
        if await run_in_threadpool((state / id).is_dir):
            await self._restore(await run_in_threadpool(Journal, state / id))

    async def _restore(self, journal: Journal) -> None:
        """Goes on with the session of ``journal``; raises Refusal."""
        head, *rest = await run_in_threadpool(lambda: list(journal.records()))
        settings = Settings.of(head["settings"])
        speaker = await self._new(head["about"], head["key"], head["kind"], settings)
        await run_in_threadpool(speaker.restore, journal, rest)

    async def _new(
        self, about: dict[str, object], key: str, kind: str, settings: Settings
    ) -> Speaker:
        if self._hub.sessions.is_full:
            await self._make_room()
        self._hub.sessions.take()
        speaker = Speaker(self._hub, about, key, kind, settings)
        self._known[speaker.id] = speaker
        return speaker

    async def _make_room(self) -> None:
        """Gives up the session that has been without a connection for the longest time."""
        left = [one for one in self._known.values() if one.connection is None and not one.run.done]
        if left:
            oldest = min(left, key=lambda one: one.left_at)
            await run_in_threadpool(self._known.pop(oldest.id).give_up)

    def _forget_old(self) -> None:
        """Removes what processes before this one left, and nobody came back to."""
        state, now = self._hub.state, time.time()
        for folder in state.glob("sess_*") if state is not None else ():
            if folder.name in self._known:
                continue
            with suppress(OSError):  # another process may remove it, too
                newest = max((path.stat().st_mtime for path in folder.iterdir()), default=0.0)
                if now - newest > self._hub.limits.resume_s:
                    shutil.rmtree(folder)
