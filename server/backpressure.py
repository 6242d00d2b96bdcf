"""Holds back clients that send faster than a replica takes, in the proxies of Ray Serve.

Between Serve's proxies and :mod:`server.app` in a replica. A proxy reads all that a client sends,
and keeps it until the replica asks; the replica asks for all of it, and keeps that until the app
reads. So each side has a layer here: that of the replica tells how much the app has read, and that
of the proxy stops reading while too much is unread. The client's own system then holds it back.

What is unusual: what was read is told by a message of our own among those of the answer, as ASGI
has none. An extension in the scope says that a proxy understands it.
"""

import asyncio
import os
from collections.abc import MutableMapping
from typing import Any

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

EXTENSION = READ = "dragoman.read"
WINDOW_BYTES = 4 * 2**20  # of one connection that are unread: the largest message four times
TELL_BYTES = WINDOW_BYTES // 4
MESSAGE_BYTES = 1_000  # that any message takes, however short it is

# Serve asks for no middleware in another way; its proxies inherit the environment.
HOOK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"


def use() -> None:
    """Lets the proxies of a Ray that is started from here hold clients back."""
    os.environ.setdefault(HOOK, f"{__name__}.middlewares")


def middlewares() -> list[Middleware]:
    """What a proxy of Serve puts in front of the replicas of this server, which must be the only
    ones behind it that take more than `WINDOW_BYTES`.
    """
    return [Middleware(Holding)]


class Holding:
    """In the proxy: reads no more from a client of whom `WINDOW_BYTES` are unread."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        window = _Window(receive, send)
        extensions = {**(scope.get("extensions") or {}), EXTENSION: {}}
        await self._app({**scope, "extensions": extensions}, window.receive, window.send)


class _Window:
    """What one connection may have unread."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._unread, self._room = 0, asyncio.Event()
        self._room.set()

    async def receive(self) -> Message:
        await self._room.wait()
        message = await self._receive()
        self._change(_size(message))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == READ:
            self._change(-message["bytes"])
        else:
            await self._send(message)

    def _change(self, size: int) -> None:
        self._unread += size
        if self._unread < WINDOW_BYTES:
            self._room.set()
        else:
            self._room.clear()


class Telling:
    """In the replica: tells the proxy what ``app`` has read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if EXTENSION not in (scope.get("extensions") or {}):  # also the start and end of the app
            return await self._app(scope, receive, send)
        untold = 0

        async def received() -> MutableMapping[str, Any]:
            nonlocal untold
            message = await receive()
            untold += _size(message)
            if untold >= TELL_BYTES:
                told, untold = untold, 0
                await send({"type": READ, "bytes": told})
            return message

        await self._app(scope, received, send)


def _size(message: Message) -> int:
    data = message.get("body") or message.get("bytes") or message.get("text") or b""
    return MESSAGE_BYTES + len(data)
