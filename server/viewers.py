"""Read-only viewers of a live session: a stream of server-sent events, and a page that shows it.

Between :mod:`server.speakers`, or the visitors of `dragoman demo`, and browsers. The link is the
key: who has it sees the captions, and can do nothing else. Speech is heard once; what a viewer
costs is what is written to its connection, and each event is made once for all who read the same
language.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, Protocol

import segno
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from dragoman.models.languages import LANGUAGES, find
from dragoman.server.limits import Places
from dragoman.server.refusals import Refusal, invalid
from dragoman.server.settings import DIGITS
from dragoman.server.streams import Bell, Transcript
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption

HERE = Path(__file__).parent
STALLED_S = 30.0
ALIVE_S = 15.0  # after which a comment shows that the stream is there
HISTORY = 50  # segments that a viewer gets who comes late
REMEMBERED = 256  # events made for all
OVER = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Live captions</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="assets/viewer.css"></head>
<body><main><h1>Live captions</h1><p>{message}</p></main></body></html>"""
KINDS = {"viewer.js": "text/javascript", "viewer.css": "text/css"}


class _Watching(StreamingResponse):
    """Captions, at one of the ``places`` of viewers; raises Refusal before anything was sent where
    there is none. It ends where the client takes nothing for a while: its place is another's then.
    """

    def __init__(self, places: Places, events: AsyncIterator[str]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._places.held():
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        async def timely(message: Message) -> None:
            await asyncio.wait_for(send(message), STALLED_S)

        with suppress(TimeoutError):
            await super().stream_response(timely)


class Followed(Protocol):
    """What is followed of a session: its captions, what rings for each, whether it has ended here,
    and whether it goes on in another process.
    """

    transcript: Transcript
    bell: Bell
    done: bool
    moved: bool


# The session that viewers call by a key, and the codes of its languages; raises Refusal.
Watched = Callable[[str], Awaitable[tuple[Followed, tuple[str, str]]]]


class Viewers:
    """The routes of viewers of the sessions that ``watched`` finds; each holds one of ``places``,
    in a context of ``counted``.
    """

    def __init__(
        self,
        watched: Watched,
        places: Places,
        counted: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._watched, self._places, self._counted = watched, places, counted
        self._made: OrderedDict[tuple[str, int, str], str] = OrderedDict()

    async def page(self, key: str, request: Request) -> HTMLResponse:
        """The page of a session, with a QR code of its own address; who opens it in a browser when
        the session is over is told so in words.
        """
        try:
            await self._watched(key)
        except Refusal as refused:
            if "text/html" not in request.headers.get("accept", ""):
                raise
            text = OVER.format(message=escape(refused.message))
            return HTMLResponse(text, refused.status, refused.headers)
        code = code_of(str(request.url.replace(query="")))
        text = (HERE / "viewer.html").read_text(encoding="utf-8").replace("{qr}", code)
        return HTMLResponse(text)

    async def stream(self, key: str, request: Request) -> StreamingResponse:
        """The captions from now on, the last ones before them, and after a break those missed."""
        followed, languages = await self._watched(key)
        language = request.query_params.get("language", "")
        if language:
            language = _spoken(find(language).code, languages)
        place = _place(request.headers.get("last-event-id", "0"), followed.transcript)
        return _Watching(self._places, self._events(followed, language, place))

    async def _events(self, run: Followed, language: str, place: int) -> AsyncIterator[str]:
        most = None if place else HISTORY
        with self._counted():
            while True:
                done = run.done  # before the captions: those that come meanwhile count
                place, captions = run.transcript.after(place, most)
                for caption in captions:
                    yield self._event(caption, language)
                if captions:
                    yield f"id: {run.transcript.name}-{place}\nevent: place\ndata: {place}\n\n"
                    most = None
                if done and not run.moved:
                    yield "event: end\ndata: {}\n\n"
                if done:
                    return
                if not captions and not await run.bell.heard(ALIVE_S):
                    yield ": still here\n\n"

    def _event(self, caption: Caption, language: str) -> str:
        name = caption.session, caption.segment, f"{caption.seq}{caption.kind}{language}"
        made = self._made.get(name)
        if made is None:
            text = json.dumps(_told(caption, language), ensure_ascii=False)
            made = self._made[name] = f"event: caption\ndata: {text}\n\n"
            if len(self._made) > REMEMBERED:
                self._made.popitem(last=False)
        return made


def code_of(address: str) -> str:
    """A QR code, as the address of a picture."""
    return segno.make(address).svg_data_uri(scale=4, border=2)


def _place(told: str, transcript: Transcript) -> int:
    """The place that a `Last-Event-ID` names, 0 for one in another transcript; raises Refusal."""
    name, _, number = told.rpartition("-")
    if not number.isdecimal() or len(number) > DIGITS:
        raise invalid(
            f"Last-Event-ID {told[:DIGITS]!r}: give that of an event, as it came", "last-event-id"
        )
    return int(number) if name == transcript.name else 0


def _told(caption: Caption, language: str) -> dict[str, object]:
    """A caption in one ``language``; in both where none is chosen."""
    texts = {
        caption.language: caption.transcript,
        caption.target_language: caption.translation,
    }
    shown = {code: text for code, text in texts.items() if language in ("", code)}
    return {
        "segment": caption.segment,
        "kind": caption.kind,
        "start": round(caption.start / SAMPLE_RATE_HZ, 3),
        "end": round(caption.end / SAMPLE_RATE_HZ, 3),
        "texts": {
            code: {
                "language": LANGUAGES[code].name,
                "committed": text.committed,
                "tail": text.tail,
            }
            for code, text in shown.items()
        },
    }


def _spoken(language: str, known: Sequence[str]) -> str:
    """``language`` if there are captions in it; raises Refusal."""
    if language not in known:
        raise Refusal(
            404, "language_not_spoken",
            f"there are no captions in {language!r}: choose {' or '.join(known)}", "language",
        )  # fmt: skip
    return language


@cache
def _file(name: str) -> bytes:
    return (HERE / name).read_bytes()


async def asset(name: str) -> Response:
    """The script and the style of the page."""
    if name not in KINDS:
        raise Refusal(404, "not_found", "there is nothing here")
    return Response(_file(name), media_type=KINDS[name])
