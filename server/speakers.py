"""The live sessions of a server: begun, found again, and ended when nobody comes back.

Between :mod:`server.realtime`, :mod:`server.viewers` and :mod:`server.speaker`. A session without a
connection is kept for a while, unless its place is wanted.
"""

import asyncio
import time

from dragoman.server.dialects import Dialect
from dragoman.server.hub import Hub
from dragoman.server.refusals import Refusal
from dragoman.server.speaker import Speaker

SWEEP_S = 1.0


class Speakers:
    """All live sessions of ``hub``; used in the event loop only."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._known: dict[str, Speaker] = {}  # by the name that who speaks knows

    def begin(self, dialect: Dialect, id: str, key: str) -> Speaker:
        """One more; raises Refusal where all places are taken by sessions that are connected."""
        if self._hub.sessions.is_full:
            self._make_room()
        self._hub.sessions.take()
        speaker = self._known[id] = Speaker(self._hub, dialect, id, key)
        return speaker

    def find(self, id: str) -> Speaker:
        """The session that who speaks calls ``id``; raises Refusal."""
        if id not in self._known:
            raise Refusal(
                404, "session_not_found",
                "there is no such session, or not any more: begin a new one", "session",
            )  # fmt: skip
        return self._known[id]

    def watched(self, key: str) -> Speaker:
        """The session that viewers call ``key``; raises Refusal."""
        for speaker in self._known.values():
            if speaker.key == key:
                return speaker
        raise Refusal(
            404, "session_not_found", "nobody speaks here any more: ask for a new link", "session"
        )

    async def sweep(self) -> None:
        """Ends what nobody came back to, for as long as the server runs."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now, kept_s = time.monotonic(), self._hub.limits.resume_s
            for id, speaker in list(self._known.items()):
                if speaker.connection is None and now - speaker.left_at > kept_s:
                    self._give_up(id)
            waiting = [speaker.waiting_s for speaker in self._known.values()]
            self._hub.metrics.waiting_s.set(sum(waiting))
            self._hub.metrics.lag_s.set(max(waiting, default=0))

    def close(self) -> None:
        """Ends all."""
        for id in list(self._known):
            self._give_up(id)

    def _make_room(self) -> None:
        """Gives up the session that has been without a connection for the longest time."""
        left = [one for one in self._known.values() if one.connection is None and not one.run.done]
        if left:
            self._give_up(min(left, key=lambda one: one.left_at).id)

    def _give_up(self, id: str) -> None:
        self._known.pop(id).give_up()
