"""Receives a file and the fields beside it into a private folder, and gives it up afterwards.

Between :mod:`server.transcriptions` and the disk. Nothing that a client names is opened as a path.
"""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect, Request

from dragoman.server.limits import Limits
from dragoman.server.refusals import Refusal, invalid

FIELDS = 32
FIELD_BYTES = 2**14
COPIES = 2  # of a file while it is being received


@dataclass(frozen=True)
class Upload:
    """A file at ``path``, called ``name`` by who sent it, and the ``fields`` that came with it."""

    path: Path
    name: str
    fields: Mapping[str, list[str]] = field(default_factory=dict[str, list[str]])

    def one(self, name: str, default: str = "") -> str:
        """The value of a field, its last one if there are several."""
        return self.fields.get(name, [default])[-1]


@asynccontextmanager
async def received(request: Request, folder: Path, limits: Limits) -> AsyncIterator[Upload]:
    """The upload of ``request`` below ``folder``, until the context ends.

    Raises Refusal: for a request without a file, for one that takes too long, and where the disk
    has no room.
    """
    room = limits.room_bytes
    _check_room(folder, COPIES * int(request.headers.get("content-length", 0)), room)
    form = await _form(request, limits.upload_s)
    sent = form.get("file")
    if not isinstance(sent, UploadFile):
        raise invalid("there is no file: send one in the field `file`", "file", "missing_file")
    place = folder / secrets.token_hex(8)
    name = _plain(sent.filename or "")
    path = place / f"upload{Path(name).suffix}"
    try:
        await run_in_threadpool(_write, sent.file, path, sent.size or 0, room)
        await form.close()
        yield Upload(path, name, _texts(form))
    finally:
        await run_in_threadpool(shutil.rmtree, place, True)


def _write(sent: IO[bytes] | SpooledTemporaryFile[bytes], path: Path, size: int, room: int) -> None:
    _check_room(path.parent.parent, size, room)
    path.parent.mkdir(mode=0o700)
    sent.seek(0)
    with path.open("wb") as file:
        shutil.copyfileobj(sent, file)


async def _form(request: Request, within_s: float) -> FormData:
    try:
        return await asyncio.wait_for(
            request.form(max_files=1, max_fields=FIELDS, max_part_size=FIELD_BYTES), within_s
        )
    except TimeoutError:
        raise Refusal(
            408, "upload_too_slow", f"the file was not here after {within_s:.0f} s: send less"
        ) from None
    except ClientDisconnect:  # nobody reads this, but it is counted, and the log stays short
        raise Refusal(400, "upload_broken", "the connection ended before the file") from None


def _check_room(folder: Path, size: int, room: int) -> None:
    if shutil.disk_usage(folder).free - size < room:
        raise Refusal(
            413, "disk_full", f"the disk of the server has no room for {size / 2**20:.0f} MB more"
        )


def _texts(form: FormData) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, str):
            fields.setdefault(name.removesuffix("[]"), []).append(value)
    return fields


def _plain(name: str) -> str:
    """A file's name for messages and as a hint of its kind: no path, no control characters."""
    base = "".join(letter for letter in Path(name).name if letter.isprintable())
    return f"{Path(base).stem[:60] or 'file'}{Path(base).suffix[:10]}"
