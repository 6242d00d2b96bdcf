"""Stands in front of every route of the page, Gradio's too: who may ask, for what, and how much.

A program that serves on a loopback address is not private: every web page that is open in the same
browser can send requests to it, and a name that its owner points at 127.0.0.1 makes them look like
the page's own (DNS rebinding). So a request is refused

* with a `Host` that is neither an address nor a name of this machine nor one that was allowed;
* from another origin, as `Origin` or `Sec-Fetch-Site` tell, except for following a link to here;
* for a path that the page does not use: of Gradio's routes only files of its own remain, and of the
  server's those of viewers, who may follow a link to here, too;
* with a body that is larger than the route takes, before it is read where its length is told.

What is unusual: it is plain ASGI, as what it wraps must not see what is refused. docs/security.md
says what this is worth.
"""

from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from dragoman.server.access import PAGE_HEADERS, VIEWERS
from dragoman.server.guard import Body, Hosts, answering, same_origin

API = "/api/"
UPLOAD = f"{API}video/"
UPLOAD_BYTES = 2 * 2**30
SOUND_BYTES = 10 * 192_000 * 2  # ten seconds of the highest rate
# What a page of Gradio's is made of. All else of it stays closed.
SHELL = ("/config", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json")
SHELL_FOLDERS = ("/assets/", "/static/", "/svelte/")
REMEDY = "`dragoman translate` takes files of any size"


class Guard:
    """``app`` for those who may use it; ``names`` are hosts beside this machine's own."""

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()) -> None:
        self._app, self._hosts = app, Hosts(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":  # the page uses no web sockets
            return await send({"type": "websocket.close", "code": 1008})
        shown = PAGE_HEADERS if scope["path"].startswith(VIEWERS[0]) else {}
        body = Body(receive, Headers(scope=scope), _limit(scope["path"]), REMEDY)
        try:
            self._check(scope)
            body.check()
        except HTTPException as refused:
            answer = JSONResponse({"detail": refused.detail}, refused.status_code)
            return await answer(scope, receive, answering(send, body, shown))
        await self._app(scope, body.receive, answering(send, body, shown))

    def _check(self, scope: Scope) -> None:
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        host = headers.get("host", "")
        self._hosts.check(host)
        reading = method in ("GET", "HEAD")
        entering = reading and (path == "/" or path.startswith(VIEWERS[0]))
        if not same_origin(headers, host, entering):
            raise HTTPException(403, "requests from other pages are refused")
        if not (path.startswith(API) or (reading and _is_shell(path))):
            raise HTTPException(404, "there is nothing here")


def _limit(path: str) -> int:
    if path.startswith(UPLOAD):
        return UPLOAD_BYTES
    return SOUND_BYTES if path.startswith(f"{API}hear/") else 1_000


def _is_shell(path: str) -> bool:
    return path == "/" or path in SHELL or path.startswith(SHELL_FOLDERS + VIEWERS)
