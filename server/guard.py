"""What every server of ours checks before anything else sees a request: names, origins, sizes.

Below :mod:`demos.browser_guard`, which stands in front of the page, and :mod:`server.access`, which
stands in front of the API.

What is unusual: an answer that comes before its request was read waits for the rest of it. To close
a connection with unread bytes resets it, and takes the answer away from whoever is still sending.
docs/security.md says what this is worth.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Send

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


class Hosts:
    """The names that this machine may be asked by, ``names`` beside its own."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = {name.lower() for name in (*_own_names(), *names)}

    def check(self, host: str) -> None:
        """Raises HTTPException for a ``host`` that is neither an address, which no name can be
        pointed at, nor a known name.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if not (_is_address(name) or name.rstrip(".") in self._names):
            raise HTTPException(
                421, f"{host!r} is no name of this machine: start the server with --allow-host"
            )


def same_origin(headers: Headers, host: str, entering: bool) -> bool:
    """Whether a page of ours asks, or no page at all; ``entering``: or a link leads here."""
    origin = headers.get("origin")
    if origin is not None and origin.lower().partition("://")[2] != host.lower():
        return False
    site = headers.get("sec-fetch-site", "none")
    return site in ("same-origin", "none") or (
        entering and headers.get("sec-fetch-mode") == "navigate"
    )


class Body:
    """What a request brings, up to ``limit`` bytes; ``unread`` while more of it is to come.
    ``remedy`` ends the sentence for more.
    """

    def __init__(self, receive: Receive, headers: Headers, limit: int, remedy: str) -> None:
        self._receive, self._limit, self._remedy, self._got = receive, limit, remedy, 0
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
        return HTTPException(413, f"this is more than {most}; {self._remedy}")


def answering(send: Send, body: Body, more: Mapping[str, str] | None = None) -> Send:
    """``send`` with headers that browsers keep to, and ``more`` of them, and with a connection that
    lasts until ``body`` is read.
    """

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update({**HEADERS, **(more or {})})
            if body.unread:
                headers["Connection"] = "close"
        elif body.unread and not message.get("more_body", False):
            await send({**message, "more_body": True})  # all of the answer; the end closes
            await body.drain()
            message = {"type": "http.response.body"}
        await send(message)

    return sent


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _own_names() -> set[str]:
    name = socket.gethostname()
    return {"localhost", name, f"{name}.local", socket.getfqdn()}
