"""The API as an ASGI app: one loaded model for all clients.

Behind :mod:`server.access`; `dragoman serve` runs it, and any ASGI server can. The caller loads the
model first, so that no client waits for it, and stops it afterwards.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from dragoman.captioner import Captioner
from dragoman.errors import DragomanError
from dragoman.server.access import Access, Rules, answer
from dragoman.server.hub import Hub
from dragoman.server.limits import Limits
from dragoman.server.metrics import Metrics
from dragoman.server.realtime import Realtime
from dragoman.server.refusals import CODES, Refusal, refusal_of
from dragoman.server.speakers import Speakers
from dragoman.server.transcriptions import Files
from dragoman.server.viewers import Viewers, asset
from dragoman.stages.messages import SessionOptions

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def application(
    captioner: Captioner,
    options: SessionOptions | None = None,
    rules: Rules | None = None,
    limits: Limits | None = None,
    aliases: Sequence[str] = (),
    state: Path | None = None,
) -> ASGIApp:
    """The API over a ``captioner`` that was entered.

    ``options`` are those of sessions that ask for nothing else; ``rules`` say who may ask,
    ``limits`` for how much; ``aliases`` are other names for the model. With a folder ``state`` live
    sessions outlive the process.
    """
    limits, metrics = limits or Limits(), Metrics()
    hub = Hub(captioner, options or SessionOptions(), limits, metrics, aliases, state)

    speakers = Speakers(hub)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(speakers.sweep())
        try:
            yield
        finally:
            sweeping.cancel()
            speakers.close()
            hub.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_exception_handler(DragomanError, _refused(metrics))
    app.add_exception_handler(HTTPException, _refused(metrics))
    _add_routes(app, hub, speakers)
    return Access(app, rules or Rules(), limits.upload_bytes, metrics)


def _add_routes(app: FastAPI, hub: Hub, speakers: Speakers) -> None:
    files, realtime = Files(hub), Realtime(hub, speakers)
    viewers = Viewers(speakers.watched, hub.viewers, hub.metrics.viewers.track_inprogress)
    about = _About(hub)
    add: Callable[..., None] = app.add_api_route
    add("/v1/audio/transcriptions", files.transcribe, methods=["POST"], response_model=None)
    add("/v1/audio/translations", files.translate, methods=["POST"], response_model=None)
    app.add_api_websocket_route("/v1/realtime", realtime.transcribe)
    app.add_api_websocket_route("/v1/realtime/translations", realtime.translate)
    add("/v1/captions/{key}", viewers.stream, response_model=None)
    add("/captions/{key}", viewers.page, response_model=None)
    add("/captions/assets/{name}", asset, response_model=None)
    add("/v1/models", about.models)
    add("/v1/models/{name:path}", about.model)
    add("/health", about.health)
    add("/metrics", about.metrics, response_model=None)


class _About:
    """Routes that tell about the server."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def models(self) -> dict[str, Any]:
        return {"object": "list", "data": [_model(name) for name in self._hub.models]}

    def model(self, name: str) -> dict[str, Any]:
        self._hub.check_model(name)
        return _model(name)

    def health(self) -> dict[str, str]:
        """Answered only once the model is loaded, as nothing listens before."""
        return {"status": "ok", "model": self._hub.model}

    def metrics(self) -> Response:
        return Response(self._hub.metrics.text(), media_type=PROMETHEUS)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "dragoman"}


def _refused(metrics: Metrics) -> Callable[[Request, Any], JSONResponse]:
    """Turns errors into OpenAI's form, and counts them."""

    def handler(request: Request, error: Any) -> JSONResponse:
        if isinstance(error, DragomanError):
            error = refusal_of(error)
        else:
            code = CODES.get(error.status_code, "invalid_request")
            error = Refusal(error.status_code, code, str(error.detail))
        metrics.refused(error.code)
        return answer(error)

    return handler
