"""Receives a file and the fields beside it into a private folder, and gives it up afterwards.

Between :mod:`server.transcriptions` and the disk. Nothing that a client names is opened as a path.
"""

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
from starlette.requests import Request

from dragoman.server.refusals import Refusal, invalid

FIELDS = 32
FIELD_BYTES = 2**14


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
async def received(request: Request, folder: Path, room_bytes: int) -> AsyncIterator[Upload]:
    """The upload of ``request`` below ``folder``, until the context ends.

    Raises Refusal: for a request without a file, and where the disk would keep less than
    ``room_bytes``.
    """
    form = await request.form(max_files=1, max_fields=FIELDS, max_part_size=FIELD_BYTES)
    sent = form.get("file")
    if not isinstance(sent, UploadFile):
        raise invalid("there is no file: send one in the field `file`", "file", "missing_file")
    place = folder / secrets.token_hex(8)
    name = _plain(sent.filename or "")
    path = place / f"upload{Path(name).suffix}"
    try:
        await run_in_threadpool(_write, sent.file, path, sent.size or 0, room_bytes)
        await form.close()
        yield Upload(path, name, _texts(form))
    finally:
        await run_in_threadpool(shutil.rmtree, place, True)


def _write(sent: IO[bytes] | SpooledTemporaryFile[bytes], path: Path, size: int, room: int) -> None:
    if shutil.disk_usage(path.parent.parent).free - size < room:
        raise Refusal(
            413, "disk_full", f"the disk of the server has no room for {size / 2**20:.0f} MB more"
        )
    path.parent.mkdir(mode=0o700)
    sent.seek(0)
    with path.open("wb") as file:
        shutil.copyfileobj(sent, file)


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
