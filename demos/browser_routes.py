"""The routes of the page: what its scripts ask for and send, beside Gradio's shell.

Between :mod:`demos.browser_guard`, which refuses what is not the page's own, and
:mod:`demos.browser_visitors`. A page has a key, which stands in every address. It sends its sound
and its file, and asks several times a second what is new: it gets the rows that it does not have.

What is unusual: nothing here goes through Gradio's own events. Its microphone loses pieces on a
busy machine (measured), its queue reloads the page when the connection breaks, and its routes take
uploads from anybody.
"""

import json
import mimetypes
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from dragoman.demos import browser_state as state
from dragoman.demos.browser_live import Superseded, TooFast
from dragoman.demos.browser_recorded import Wav
from dragoman.demos.browser_visitor import Full, Visitor, link
from dragoman.demos.browser_visitors import Visitors
from dragoman.errors import InputError, UsageError
from dragoman.server.viewers import code_of

HERE = Path(__file__).parent
SCRIPTS = {path.name: path for path in HERE.glob("browser_*.js")}
LOWEST_HZ, HIGHEST_HZ = 8_000, 192_000


def routes(visitors: Visitors, clip: Path | None) -> APIRouter:
    """All routes below `/api`; ``clip`` is the file behind the button for a first try."""
    page = _Page(visitors, clip)
    router = APIRouter(prefix="/api", include_in_schema=False)
    add: Callable[..., None] = router.add_api_route
    add("/scripts/{name}", _script)
    add("/visit", page.visit, methods=["POST"])
    add("/state/{key}", page.state)
    add("/hear/{key}", page.hear, methods=["POST"])
    add("/stop/{key}", page.stop, methods=["POST"])
    add("/choices/{key}", page.choose, methods=["POST"])
    add("/inside/{key}", page.segments)
    add("/inside/{key}/{number}", page.segment)
    add("/inside/{key}/{number}/sound.wav", page.segment_sound, response_model=None)
    add("/share/{key}", page.share, methods=["POST"])
    add("/share/{key}", page.unshare, methods=["DELETE"])
    add("/clear/{key}", page.clear, methods=["POST"])
    add("/bye/{key}", page.bye, methods=["POST"])
    add("/live/{key}/{name}", page.live_file, response_model=None)
    add("/video/{key}", page.upload, methods=["POST"])
    add("/video/{key}", page.close_video, methods=["DELETE"])
    add("/clip/{key}", page.play_clip, methods=["POST"])
    add("/video/{key}/{number}/{name}", page.video_file)
    return router


def _script(name: str) -> FileResponse:
    if name not in SCRIPTS:
        raise HTTPException(404, "no such script")
    return FileResponse(SCRIPTS[name], media_type="text/javascript")


class _Page:
    """What the routes do. Those that are no coroutines run in threads of the server's."""

    def __init__(self, visitors: Visitors, clip: Path | None) -> None:
        self._visitors, self._clip = visitors, clip

    async def visit(self, request: Request) -> dict[str, Any]:
        """A key for the page; the one that it had, if that is still known."""
        had = (await request.body()).decode("ascii", "replace")
        visitor = self._visitors.get(had)
        if visitor is None:
            try:
                visitor = await run_in_threadpool(self._visitors.new)
            except Full as error:
                raise HTTPException(503, str(error)) from None
        choices = state.chosen(visitor, self._visitors)
        return {"key": visitor.key, "page": visitor.enter(), "choices": choices}

    def state(
        self, key: str, era: int = 0, rows: int = 0, number: int = 0, lines: int = 0, whole: int = 0
    ) -> dict[str, Any]:
        """What is new for a page that has ``rows`` of the transcript's ``era``, and ``lines`` of
        file ``number``, whose player and links it has if ``whole`` is the same number.
        """
        visitor = self._of(key)
        return {
            "live": state.live(visitor, era, rows),
            "video": state.video(visitor, self._visitors, number, lines, whole),
        }

    async def hear(
        self,
        key: str,
        request: Request,
        take: int = Query(ge=0),
        rate: int = Query(ge=LOWEST_HZ, le=HIGHEST_HZ),
        at: int = Query(ge=0),
    ) -> dict[str, bool]:
        """Takes sound: int16, mono, little-endian."""
        visitor, body = self._of(key), await request.body()
        if len(body) % 2:
            raise HTTPException(400, f"{len(body)} bytes are no int16 samples")
        samples = np.frombuffer(body, "<i2")
        try:
            await run_in_threadpool(visitor.live.hear, rate, samples, take, at)
        except Superseded as error:
            raise HTTPException(409, str(error)) from None
        except TooFast as error:
            raise HTTPException(429, str(error)) from None
        return {"heard": True}

    def stop(self, key: str, take: int = Query(ge=0)) -> dict[str, bool]:
        self._of(key).live.stop(take)
        return {"stopped": True}

    async def choose(self, key: str, request: Request) -> dict[str, Any]:
        """Takes what was chosen for the next recording or file."""
        visitor, body = self._of(key), await request.body()
        try:
            told = json.loads(body)
            if not isinstance(told, dict):
                raise UsageError("expected an object with what was chosen")
            visitor.options = self._visitors.choices.applied(visitor.options, told)
        except ValueError as error:  # so are errors of usage
            raise HTTPException(400, str(error)) from None
        return state.chosen(visitor, self._visitors)

    def segments(self, key: str) -> list[dict[str, Any]]:
        """What the Inside tab can show, the newest first."""
        return state.segments(self._of(key))

    def segment(self, key: str, number: int) -> dict[str, Any]:
        found = state.segment(self._of(key), number)
        if found is None:
            raise HTTPException(404, "this segment is not kept any more")
        return found

    def segment_sound(self, key: str, number: int) -> Response:
        found = state.segment_sound(self._of(key), number)
        if found is None:
            raise HTTPException(404, "this segment is not kept any more")
        return _sound(found)

    async def share(self, key: str, request: Request) -> dict[str, str]:
        """A link for viewers, and a QR code of it below the address that the page has."""
        visitor, base = self._of(key), (await request.body()).decode("utf-8", "replace")
        path = f"captions/{visitor.share().key}"
        return {"path": path, "code": await run_in_threadpool(code_of, base + path)}

    async def unshare(self, key: str) -> dict[str, bool]:
        """Ends the link."""
        self._of(key).unshare()
        return {"ended": True}

    def clear(self, key: str) -> dict[str, bool]:
        self._of(key).live.clear()
        return {"cleared": True}

    def bye(self, key: str, page: int = Query(ge=0)) -> dict[str, bool]:
        """The page of that number was closed, or is being loaded again."""
        self._of(key).leave(page)
        return {"closed": True}

    async def upload(self, key: str, request: Request, name: str = Query(max_length=1_000)) -> Any:
        """Takes a file, and begins to translate it."""
        visitor = self._of(key)
        size = int(request.headers.get("content-length", 0))
        with ExitStack() as stack:
            try:
                media = stack.enter_context(visitor.receiving(name, size))
                with media.open("wb") as file:
                    async for part in request.stream():
                        visitor.touch()
                        visitor.check_room(len(part))  # others write as well
                        await run_in_threadpool(file.write, part)
            except Full as error:
                raise HTTPException(413, str(error)) from None
            return await run_in_threadpool(_open, visitor, media)

    def play_clip(self, key: str) -> Any:
        visitor = self._of(key)
        if self._clip is None:
            raise HTTPException(404, "there is no bundled clip here")
        with visitor.receiving(self._clip.name, 0) as media:
            link(self._clip, media)
            return _open(visitor, media)

    def close_video(self, key: str, number: int = Query(ge=0)) -> dict[str, bool]:
        """Gives up file ``number``, and not the one that came after it."""
        self._of(key).close_video(number)
        return {"closed": True}

    def live_file(self, key: str, name: str) -> Response:
        visitor = self._of(key)
        if name == state.SOUND and visitor.live.recorded.samples:
            return _sound(visitor.live.recorded.wav())
        path = state.write_live(visitor, self._visitors, name)
        if path is None:
            raise HTTPException(404, "no such file")
        return _download(path)

    def video_file(self, key: str, number: int, name: str) -> FileResponse:
        """A part of the finished file: itself, its subtitles, its pictures."""
        visitor = self._of(key)
        path = visitor.files(number).get(name)
        if path is None or not path.is_file():
            raise HTTPException(404, "no such file")
        return _download(path)

    def _of(self, key: str) -> Visitor:
        visitor = self._visitors.get(key)
        if visitor is None:
            raise HTTPException(403, "unknown key: reload the page")
        return visitor


def _open(visitor: Visitor, media: Path) -> dict[str, bool]:
    try:
        visitor.open_video(media)
    except InputError as error:
        raise HTTPException(415, str(error)) from None
    return {"begun": True}


def _sound(wav: Wav) -> StreamingResponse:
    size, parts = wav
    return StreamingResponse(parts, 200, {"Content-Length": str(size)}, "audio/wav")


def _download(path: Path) -> FileResponse:
    """``path`` as something that is played, shown or kept, but never run as a page."""
    kind = mimetypes.guess_type(path.name)[0] or ""
    harmless = kind.startswith(("audio/", "video/")) or kind in ("image/jpeg", "text/vtt")
    return FileResponse(path, media_type=kind if harmless else "application/octet-stream")
