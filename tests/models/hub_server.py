"""A hub on this machine: the few endpoints that a download needs, over HTTP."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SHA = "5" * 40  # the one revision of every repository
REVISIONS = ("main", "v1", SHA)  # what it is called


@dataclass
class Hub:
    """Repositories by id, each a folder; those in ``gated`` give files to the token only.

    ``asked`` are the paths of all requests, ``sent`` the bytes of files that left; ``down``
    answers 503 to each.
    """

    repositories: dict[str, Path]
    gated: set[str] = field(default_factory=set)
    token: str = "hf_right"
    asked: list[str] = field(default_factory=list)
    sent: int = 0
    down: bool = False
    url: str = ""

    @contextmanager
    def serving(self) -> Iterator[Hub]:
        hub = self

        class Handler(_Handler):
            served = hub

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def downloaded(self) -> list[str]:
        """The names of the files that were fetched, each as often as it was."""
        return sorted(
            path.rpartition("/")[2] for path in self.asked if path.startswith("GET /") and
            "/resolve/" in path
        )  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    served: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        hub, path = self.served, self.path.partition("?")[0]
        hub.asked.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        about = parts[:2] == ["api", "models"]
        repo = "/".join(parts[2:4] if about else parts[:2])
        folder = hub.repositories.get(repo)
        if hub.down:
            self._refuse(503, "", "the hub sleeps")
        elif folder is None:
            self._refuse(404 if self._token else 401, "RepoNotFound", "Repository not found")
        elif self._token not in (None, hub.token):
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif "revision" in parts and parts[-1] not in REVISIONS:
            self._refuse(404, "RevisionNotFound", "Invalid rev id")
        elif about:
            self._send_json(_tree(folder) if "tree" in parts else _info(repo, folder))
        elif repo in hub.gated and self._token is None:
            self._refuse(401, "GatedRepo", f"Access to model {repo} is restricted.")
        elif repo in hub.gated and hub.token == "hf_not_yet":
            self._refuse(403, "GatedRepo", f"Access to model {repo} is restricted.")
        else:
            self._send_file(folder / "/".join(parts[4:]), with_body)

    @property
    def _token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def _refuse(self, status: int, code: str, message: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_file(self, path: Path, with_body: bool) -> None:
        body, asked = path.read_bytes(), self.headers.get("Range")
        if asked and with_body:
            first, last = map(int, asked.removeprefix("bytes=").split("-"))
            body = body[first : last + 1]
        self.served.sent += len(body) if with_body else 0
        self.send_response(206 if asked else 200)
        self.send_header("X-Repo-Commit", SHA)
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _info(repo: str, folder: Path) -> dict[str, object]:
    files = [{"rfilename": path.name} for path in sorted(folder.iterdir())]
    return {"_id": "0", "id": repo, "modelId": repo, "sha": SHA, "siblings": files}


def _tree(folder: Path) -> list[dict[str, object]]:
    return [
        {
            "type": "file",
            "path": str(path.relative_to(folder)),
            "size": path.stat().st_size,
            "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
