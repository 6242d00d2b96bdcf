"""Stands in front of every route of the API: who may ask, from where, and how much.

What is refused never reaches the app: an unknown `Host`, a foreign `Origin`, a missing or wrong
token, too large a body. A viewer's address is a key by itself and needs no token, as browsers send
none with an event stream; nor does the answer to whether the server is alive.

What is unusual: it is plain ASGI, and refuses a web socket with an HTTP answer, so that a client
reads why.
"""

import hmac
from collections.abc import Collection
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from dragoman.server.guard import Body, Hosts, answering, same_origin
from dragoman.server.metrics import Metrics
from dragoman.server.refusals import CODES, Refusal

PUBLIC = ("/health",)
VIEWERS = ("/captions/", "/v1/captions/")
UPLOADS = "/v1/audio/"
FORM_BYTES = 2**16  # of an upload beside its file
OTHER_BYTES = 1_000
PAGE_HEADERS = {  # of a viewer's page, which runs nothing but its own script
    "Content-Security-Policy": "default-src 'self'; img-src data:; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
KEY_IN_PROTOCOL = "openai-insecure-api-key."  # how browsers send a token to OpenAI's web sockets


@dataclass(frozen=True)
class Rules:
    """Who may ask: with ``key``, None: everybody; by the host names ``names`` beside this machine's
    own; from pages of ``origins`` beside those of this server.
    """

    key: str | None = None
    names: Collection[str] = ()
    origins: Collection[str] = ()


class Access:
    """``app`` for those who may use it; uploads have ``upload_bytes`` at most."""

    def __init__(self, app: ASGIApp, rules: Rules, upload_bytes: int, metrics: Metrics) -> None:
        self._app, self._rules, self._metrics = app, rules, metrics
        self._upload_bytes = upload_bytes + FORM_BYTES
        self._hosts = Hosts(rules.names)
        self._origins = {origin.lower().rstrip("/") for origin in rules.origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        page = PAGE_HEADERS if scope["path"].startswith(VIEWERS[0]) else {}
        shared = self._shared(headers)
        limit = self._upload_bytes if scope["path"].startswith(UPLOADS) else OTHER_BYTES
        body = Body(receive, headers, limit, "--max-upload-mb allows more")
        send = answering(send, body, {**page, **shared})
        is_http = scope["type"] == "http"
        try:
            self._check(scope, headers)
            if is_http:
                body.check()
        except (HTTPException, Refusal) as refused:
            return await self._refuse(refused, scope, receive, send)
        if is_http and scope["method"] == "OPTIONS" and shared:
            return await Response(status_code=204)(scope, receive, send)
        await self._app(scope, body.receive if is_http else receive, send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        path, method = scope["path"], scope.get("method", "GET")
        host = headers.get("host", "")
        self._hosts.check(host)
        foreign = not self._is_allowed(headers)
        if foreign and not same_origin(headers, host, path.startswith(VIEWERS[0])):
            raise Refusal(
                403, "origin_not_allowed",
                "requests from pages of other origins are refused: start the server with "
                "--allow-origin for those that may ask",
            )  # fmt: skip
        if path in PUBLIC or path.startswith(VIEWERS) or method == "OPTIONS":
            return
        if self._rules.key is not None and not _is_key(self._rules.key, headers):
            raise Refusal(
                401, "invalid_api_key",
                "this server needs its key: send `Authorization: Bearer KEY`",
            )  # fmt: skip

    def _is_allowed(self, headers: Headers) -> bool:
        return headers.get("origin", "").lower() in self._origins

    def _shared(self, headers: Headers) -> dict[str, str]:
        """What lets a page of an allowed origin read the answer."""
        if not self._is_allowed(headers):
            return {}
        return {
            "Access-Control-Allow-Origin": headers["origin"],
            "Access-Control-Allow-Methods": "GET, POST",
            "Access-Control-Allow-Headers": "authorization, content-type, last-event-id",
            "Vary": "Origin",
        }

    async def _refuse(
        self, refused: HTTPException | Refusal, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if isinstance(refused, HTTPException):
            code = CODES.get(refused.status_code, "refused")
            refused = Refusal(refused.status_code, code, refused.detail)
        self._metrics.refused(refused.code)
        await answer(refused)(scope, receive, send)


def answer(refusal: Refusal) -> JSONResponse:
    """A refusal as HTTP has it, also to the handshake of a web socket."""
    return JSONResponse({"error": refusal.error()}, refusal.status, refusal.headers)


def _is_key(key: str, headers: Headers) -> bool:
    """Whether the request has the ``key``; found out in the same time whatever it has."""
    kind, _, told = headers.get("authorization", "").partition(" ")
    offered = headers.get("sec-websocket-protocol", "").replace(" ", "").split(",")
    keys = [told.strip() if kind.lower() == "bearer" else ""]
    keys += [p.removeprefix(KEY_IN_PROTOCOL) for p in offered if p.startswith(KEY_IN_PROTOCOL)]
    return any([hmac.compare_digest(key.encode(), each.encode()) for each in keys])
