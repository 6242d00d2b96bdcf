"""The live sessions of a server: begun, found again, and ended when nobody comes back.

Between :mod:`server.realtime`, :mod:`server.viewers` and :mod:`server.speaker`. A session without a
connection is kept for a while, unless its place is wanted. Where there is a folder for it, one that
another process had begun is found there: whoever speaks takes it over, whoever watches follows it.
"""

import asyncio
import base64
import hashlib
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path
from weakref import WeakValueDictionary

from starlette.concurrency import run_in_threadpool

from dragoman.server.follower import Follower
from dragoman.server.hub import Hub
from dragoman.server.journal import Journal, ask_for, head_of
from dragoman.server.refusals import Refusal
from dragoman.server.runs import Run
from dragoman.server.settings import Settings
from dragoman.server.speaker import Speaker
from dragoman.stages.messages import SessionOptions

SWEEP_S = 0.5
TAKE_S, ASK_S = 10.0, 0.1  # how long another process may take to let go of a session; between looks
ID = re.compile(r"sess_[A-Za-z0-9_-]{24}")  # it is the name of a folder


class Speakers:
    """All live sessions of ``hub``; used in the event loop only."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._known: dict[str, Speaker] = {}  # by the name that who speaks knows
        self._followed: dict[str, Follower] = {}  # those of other processes, by their keys
        self._finding: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def begin(self, kind: str, settings: Settings) -> Speaker:
        """One more; raises Refusal where all places are taken by sessions that are connected."""
        id, now = f"sess_{secrets.token_urlsafe(18)}", time.time()
        about = {
            "id": id,
            "created": int(now),
            "expires_at": int(now + self._hub.limits.session_s),
            "viewers": f"/captions/{key_of(id)}",
        }
        speaker = await self._new(about, kind, settings)
        if self._hub.state is not None:
            journal = await run_in_threadpool(Journal.begin, self._hub.state / id)
            await run_in_threadpool(speaker.keep, journal, kind)
        return speaker

    async def find(self, id: str) -> Speaker:
        """The session that who speaks calls ``id``; raises Refusal."""
        if ID.fullmatch(id):
            lock = self._finding.setdefault(id, asyncio.Lock())
            async with lock:  # it is restored once
                await self._look(id)
        if id not in self._known:
            raise Refusal(
                404, "session_not_found",
                "there is no such session, or not any more: begin a new one", "session",
            )  # fmt: skip
        return self._known[id]

    async def watched(self, key: str) -> tuple[Run, tuple[str, str]]:
        """The session that viewers call ``key``, here or at another process, and its languages;
        raises Refusal.
        """
        found = await self._watched(key)
        return found.run, (found.options.language, found.options.target_language)

    async def _watched(self, key: str) -> Speaker | Follower:
        for id, speaker in self._known.items():
            if key_of(id) == key:
                return speaker
        followed = self._followed.get(key)
        if followed is None and (found := await run_in_threadpool(self._elsewhere, key)):
            followed = self._followed.setdefault(key, Follower(*found))
        if followed is None:
            raise Refusal(
                404, "session_not_found", "nobody speaks here any more: ask for a new link",
                "session",
            )  # fmt: skip
        return followed

    async def sweep(self) -> None:
        """Ends what nobody came back to, and hands on what another process asks for, for as long as
        the server runs.
        """
        while True:
            now, kept_s = time.monotonic(), self._hub.limits.resume_s
            for id, speaker in list(self._known.items()):
                if speaker.connection is None and now - speaker.left_at > kept_s:
                    await run_in_threadpool(self._known.pop(id).give_up)
                elif await run_in_threadpool(speaker.is_wanted):
                    speaker.attach(None)  # who is connected here hears no more
                    await run_in_threadpool(self._known.pop(id).leave_to_another)
            for key in [key for key, one in self._followed.items() if one.run.done]:
                del self._followed[key]
            await run_in_threadpool(self._forget_old)
            waiting = [speaker.waiting_s for speaker in self._known.values()]
            self._hub.metrics.waiting_s.set(sum(waiting))
            self._hub.metrics.lag_s.set(max(waiting, default=0))
            await asyncio.sleep(SWEEP_S)

    def close(self) -> None:
        """Ends all. What is on disk stays for the process that takes this one's place."""
        for speaker in self._known.values():
            speaker.attach(None)
            speaker.leave_to_another()
        for followed in self._followed.values():
            followed.leave()

    async def _look(self, id: str) -> None:
        """Takes over the session ``id`` if another process has left it here, or is asked to; raises
        Refusal.
        """
        state = self._hub.state
        if id in self._known or state is None:
            return
        with suppress(FileNotFoundError):  # it has ended
            await self._restore(await self._taken(state / id))

    async def _taken(self, folder: Path) -> Journal:
        """The journal in ``folder`` once no other process has it; raises Refusal,
        FileNotFoundError.
        """
        end = time.monotonic() + TAKE_S
        while time.monotonic() < end:
            try:
                return await run_in_threadpool(Journal, folder)
            except BlockingIOError:
                await run_in_threadpool(ask_for, folder)
            await asyncio.sleep(ASK_S)
        raise Refusal(
            503, "session_elsewhere",
            f"another server has this session, and has not let go of it for {TAKE_S:.0f} s: "
            "try again", "session",
        )  # fmt: skip

    async def _restore(self, journal: Journal) -> None:
        """Goes on with the session of ``journal``; raises Refusal, and leaves it to others then."""
        try:
            records = await run_in_threadpool(lambda: list(journal.records()))
            if not records:  # it was killed before anything was told to anybody
                return await run_in_threadpool(journal.close)
            head = records[0]
            speaker = await self._new(head["about"], head["kind"], Settings.of(head["settings"]))
        except Exception:
            await run_in_threadpool(journal.release)
            raise
        await run_in_threadpool(speaker.restore, journal, records[1:])

    async def _new(self, about: dict[str, object], kind: str, settings: Settings) -> Speaker:
        if self._hub.sessions.is_full:
            await self._make_room()
        self._hub.sessions.take()
        speaker = Speaker(self._hub, about, kind, settings)
        self._known[speaker.id] = speaker
        return speaker

    async def _make_room(self) -> None:
        """Gives up the session that has been without a connection for the longest time."""
        left = [one for one in self._known.values() if one.connection is None and not one.run.done]
        if left:
            oldest = min(left, key=lambda one: one.left_at)
            await run_in_threadpool(self._known.pop(oldest.id).give_up)

    def _elsewhere(self, key: str) -> tuple[Path, SessionOptions] | None:
        """The folder of the session ``key``, and what it began with."""
        state = self._hub.state
        for folder in state.glob("sess_*") if state is not None else ():
            if key_of(folder.name) == key and (head := head_of(folder)) is not None:
                return folder, Settings.of(head["settings"]).options
        return None

    def _forget_old(self) -> None:
        """Removes what processes before this one left, and nobody came back to."""
        state, now = self._hub.state, time.time()
        for folder in state.glob("sess_*") if state is not None else ():
            if folder.name in self._known:
                continue
            with suppress(OSError):  # another process has it, or removes it, too
                newest = max((path.stat().st_mtime for path in folder.iterdir()), default=0.0)
                if now - newest > self._hub.limits.resume_s:
                    Journal(folder).close()


def key_of(id: str) -> str:
    """What viewers call the session ``id``: whoever knows it knows no more than that."""
    digest = hashlib.sha256(id.encode()).digest()
    return base64.urlsafe_b64encode(digest[:12]).decode("ascii")
