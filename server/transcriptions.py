"""`POST /v1/audio/transcriptions` and `/v1/audio/translations`: captions of a file.

As OpenAI's client sends them, with vLLM's `to_language`. A place among the files is taken before
the body is read, so a request that cannot be served costs nothing.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dragoman.models.languages import find
from dragoman.pipeline.session import Session
from dragoman.server.answers import ANSWERS, Shape, Which, answer, usage, whole
from dragoman.server.growth import Growing
from dragoman.server.hub import Hub
from dragoman.server.refusals import invalid, refusal_of
from dragoman.server.runs import Run
from dragoman.server.streams import Bell
from dragoman.server.uploads import Upload, received
from dragoman.stages.messages import SessionOptions

POLL_S = 1.0  # how often one looks whether the client is still there
KNOWN = {"model", "language", "to_language", "response_format", "temperature", "stream"}
KNOWN |= {"timestamp_granularities", "chunking_strategy"}
UNSUPPORTED = {"prompt", "include", "keywords", "known_speaker_names", "known_speaker_references"}


@dataclass(frozen=True)
class Asked:
    """What a request asks for."""

    options: SessionOptions
    shape: Shape
    stream: bool = False

    @classmethod
    def of(cls, upload: Upload, which: Which, defaults: SessionOptions) -> "Asked":
        """The fields of ``upload``, read; raises Refusal."""
        _check(upload)
        form = upload.one("response_format", "json")
        if form not in ANSWERS:
            known = ", ".join(ANSWERS)
            raise invalid(f"response_format {form!r}: give any of {known}", "response_format")
        target = upload.one("to_language")
        stream = upload.one("stream", "false").lower() in ("true", "1")
        options = replace(
            defaults,
            language=find(upload.one("language") or defaults.language).code,
            target_language=find(target or defaults.target_language).code,
            finals_only=not stream,
        )
        return cls(options, Shape(form, which, bool(target)), stream)


def _check(upload: Upload) -> None:
    """Raises Refusal for what would be asked in vain."""
    for name, values in upload.fields.items():
        if name in UNSUPPORTED and any(values):
            raise invalid(f"{name} is not supported: leave it out", name, "unsupported_parameter")
        if name not in KNOWN | UNSUPPORTED:
            known = ", ".join(sorted(KNOWN))
            raise invalid(f"unknown field {name!r}: known are {known}", name, "unknown_parameter")
    if set(upload.fields.get("timestamp_granularities", ())) - {"segment"}:
        raise invalid(
            "timestamp_granularities: there are times of segments only, ask for `segment`",
            "timestamp_granularities[]",
            "unsupported_value",
        )
    if upload.one("chunking_strategy", "auto") != "auto":
        raise invalid("chunking_strategy: only `auto` is supported", "chunking_strategy")


class Files:
    """The two routes."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def transcribe(self, request: Request) -> Response:
        return await self._answer(request, "transcript")

    async def translate(self, request: Request) -> Response:
        return await self._answer(request, "translation")

    async def _answer(self, request: Request, which: Which) -> Response:
        hub = self._hub
        async with AsyncExitStack() as stack:
            stack.enter_context(hub.files.held())
            upload = await stack.enter_async_context(received(request, hub.folder, hub.limits))
            try:
                hub.check_model(upload.one("model"))
                asked = Asked.of(upload, which, hub.options)
                followed = _Followed(hub, upload, asked, request)
                await followed.start()
            except Exception as error:
                raise refusal_of(error, {str(upload.path): upload.name}) from error
            if not asked.stream:
                stack.callback(followed.leave)
                return await followed.whole()
            kept = stack.pop_all()  # the place and the file go when the stream has ended
            kept.callback(followed.leave)
            return StreamingResponse(followed.events(kept), media_type="text/event-stream")


class _Followed:
    """The session on an uploaded file."""

    session: Session
    run: Run

    def __init__(self, hub: Hub, upload: Upload, asked: Asked, request: Request) -> None:
        self._hub, self._upload, self._asked, self._request = hub, upload, asked, request

    async def start(self) -> None:
        """Raises what cannot be captioned."""
        path, asked = self._upload.path, self._asked
        captioner = self._hub.captioner
        self.session = await run_in_threadpool(captioner.session, path, asked.options, pace="fast")
        gauge = self._hub.metrics.sessions.labels("file")
        gauge.inc()

        def over(error: Exception | None) -> None:
            gauge.dec()
            self._hub.metrics.ended.labels("file", "failed" if error else "done").inc()
            self._hub.metrics.heard_s.labels("file").inc(self.session.heard_s)

        self.run = Run(self.session, Bell(), self._hub.metrics.captioned, over)

    def leave(self) -> None:
        """Ends the session if it still runs."""
        self.session.stop()
        self.run.leave()

    async def whole(self) -> Response:
        """The answer once everything was heard; raises Refusal."""
        while not self.run.done:
            await self.run.bell.heard(POLL_S)
            if not self.run.done and await self._request.is_disconnected():
                return Response(status_code=499)
        self._raise_failure()
        finals, asked = self.run.transcript.finals, self._asked
        model = self._hub.captioner.spec.model
        return await run_in_threadpool(
            answer, finals, asked.shape, asked.options, model, self.session.heard_s
        )

    async def events(self, kept: AsyncExitStack) -> AsyncIterator[str]:
        """OpenAI's stream of text as server-sent events; at its end ``kept`` is closed."""
        growing, place, which = Growing(), 0, self._asked.shape.which
        async with kept:
            while True:
                done = self.run.done  # before the captions: those that come meanwhile count
                place, captions = self.run.transcript.after(place)
                for caption in captions:
                    piece = growing.of(caption.segment, getattr(caption, which)).whole
                    if piece:
                        yield _event({"type": "transcript.text.delta", "delta": piece})
                if done:
                    break
                if not captions:  # to write them took a while: what came meanwhile counts
                    await self.run.bell.heard(POLL_S)
            yield _event(self._last())

    def _last(self) -> dict[str, Any]:
        try:
            self._raise_failure()
        except Exception as error:
            return {"error": refusal_of(error).error()}
        text = whole(self.run.transcript.finals, self._asked.shape.which)
        told = {"type": "transcript.text.done", "text": text}
        return {**told, "usage": usage(self.session.heard_s)}

    def _raise_failure(self) -> None:
        if self.run.error is not None:
            raise refusal_of(self.run.error, {str(self._upload.path): self._upload.name})


def _event(told: dict[str, Any]) -> str:
    return f"data: {json.dumps(told, ensure_ascii=False)}\n\n"
