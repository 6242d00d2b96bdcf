"""Stands in front of every route of the page, Gradio's too: who may ask, for what, and how much.

A program that serves on a loopback address is not private: every web page that is open in the same
browser can send requests to it, and a name that its owner points at 127.0.0.1 makes them look like
the page's own (DNS rebinding). So a request is refused

* with a `Host` that is neither an address nor a name of this machine nor one that was allowed;
* from another origin, as `Origin` or `Sec-Fetch-Site` tell, except for following a link to here;
* for a path that the page does not use: of Gradio's routes only files of its own remain;
* with a body that is larger than the route takes, before it is read where its length is told.

What is unusual: it is plain ASGI, as what it wraps must not see what is refused. And an answer that
comes before its request was read waits for the rest of it: to close a connection with unread bytes
resets it, and takes the answer away from whoever is still sending. docs/security.md says what this
is worth.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

API = "/api/"
UPLOAD = f"{API}video/"
UPLOAD_BYTES = 2 * 2**30
SOUND_BYTES = 10 * 192_000 * 2  # ten seconds of the highest rate
# What a page of Gradio's is made of. All else of it stays closed.
SHELL = ("/config", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json")
SHELL_FOLDERS = ("/assets/", "/static/", "/svelte/")
# What of a request that has been answered is still read, before its connection is closed (nginx
# calls this a lingering close, and waits as long).
LINGER_S, LINGER_IDLE_S = 30.0, 5.0
LINGER_BYTES = 2**26
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # addresses hold keys
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """``app`` for those who may use it; ``names`` are hosts beside this machine's own."""

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()) -> None:
        self._app = app
        self._names = {name.lower() for name in (*_own_names(), *names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":  # the page uses no web sockets
            return await send({"type": "websocket.close", "code": 1008})
        body = _Body(receive, Headers(scope=scope), _limit(scope["path"]))
        try:
            self._check(scope)
            body.check()
        except HTTPException as refused:
            answer = JSONResponse({"detail": refused.detail}, refused.status_code)
            return await answer(scope, receive, _answering(send, body))
        await self._app(scope, body.receive, _answering(send, body))

    def _check(self, scope: Scope) -> None:
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise HTTPException(
                421, f"{host!r} is no name of this machine: start the page with --allow-host"
            )
        entering = path == "/" and method in ("GET", "HEAD")
        if not _same_origin(headers, host, entering):
            raise HTTPException(403, "requests from other pages are refused")
        if not (path.startswith(API) or (method in ("GET", "HEAD") and _is_shell(path))):
            raise HTTPException(404, "there is nothing here")

    def _is_ours(self, host: str) -> bool:
        """Whether ``host`` is an address, which no name can be pointed at, or a known name."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return _is_address(name) or name.rstrip(".") in self._names


class _Body:
    """What a request brings, up to ``limit`` bytes; ``unread`` while more of it is to come."""

    def __init__(self, receive: Receive, headers: Headers, limit: int) -> None:
        self._receive, self._limit, self._got = receive, limit, 0
        self._told = headers.get("content-length", "0")
        self.unread = self._told != "0" or "transfer-encoding" in headers

    def check(self) -> None:
        """Raises HTTPException where the length that is told is too much."""
        if not self._told.isdecimal() or int(self._told) > self._limit:
            raise self._too_large()

    async def receive(self) -> Message:
        """The next part; raises HTTPException, which the app answers with."""
        message = await self._next()
        if self._got > self._limit:
            raise self._too_large()
        return message

    async def drain(self) -> None:
        """Reads what is still to come, within reason, and drops it."""
        most, end = self._got + LINGER_BYTES, time.monotonic() + LINGER_S
        with contextlib.suppress(TimeoutError):
            while self.unread and self._got < most and (left := end - time.monotonic()) > 0:
                async with asyncio.timeout(min(left, LINGER_IDLE_S)):
                    await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        self._got += len(message.get("body", b""))
        self.unread = self.unread and message.get("more_body", False)
        return message

    def _too_large(self) -> HTTPException:
        most = f"{self._limit / 2**20:.0f} MB" if self._limit >= 2**20 else f"{self._limit} bytes"
        return HTTPException(
            413, f"this is more than {most}; `dragoman translate` takes files of any size"
        )


def _limit(path: str) -> int:
    if path.startswith(UPLOAD):
        return UPLOAD_BYTES
    return SOUND_BYTES if path.startswith(f"{API}hear/") else 1_000


def _same_origin(headers: Headers, host: str, entering: bool) -> bool:
    """Whether a page of ours asks, or no page at all; ``entering``: or a link leads here."""
    origin = headers.get("origin")
    if origin is not None and origin.lower().partition("://")[2] != host.lower():
        return False
    site = headers.get("sec-fetch-site", "none")
    return site in ("same-origin", "none") or (
        entering and headers.get("sec-fetch-mode") == "navigate"
    )


def _is_shell(path: str) -> bool:
    return path == "/" or path in SHELL or path.startswith(SHELL_FOLDERS)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _own_names() -> set[str]:
    name = socket.gethostname()
    return {"localhost", name, f"{name}.local", socket.getfqdn()}


def _answering(send: Send, body: _Body) -> Send:
    """``send`` with the page's headers, and with a connection that lasts until ``body`` is read."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS)
            if body.unread:
                headers["Connection"] = "close"
        elif body.unread and not message.get("more_body", False):
            await send({**message, "more_body": True})  # all of the answer; the end closes
            await body.drain()
            message = {"type": "http.response.body"}
        await send(message)

    return sent
