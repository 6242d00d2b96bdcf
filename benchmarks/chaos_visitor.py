"""A visitor of the page in a process of its own, which may be killed.

    python -m benchmarks.chaos_visitor URL SOUND OUT

speaks SOUND, a file of int16 samples at 16 kHz, as fast as the clock, and keeps the page's document
of what was said in OUT, the last one with `"ended": true`. Part of `benchmarks.chaos`.
"""

import http.client
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dragoman.stages.messages import SAMPLE_RATE_HZ

PIECE = SAMPLE_RATE_HZ // 4  # samples of a request
KEEP_S = 3.0  # from one look at the document to the next
PATIENCE_S = 180.0  # for the last captions


class Visitor:
    """An open page at ``url``."""

    def __init__(self, url: str) -> None:
        self._place = urlsplit(url)
        self.key = json.loads(self.ask("POST", "/api/visit"))["key"]

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """What the server answers, nothing where it has none; what is refused for now is asked
        again.
        """
        while True:
            connection = http.client.HTTPConnection(self._place.netloc, timeout=60)
            try:
                connection.request(method, path, body)
                answer = connection.getresponse()
                told = answer.read()
            finally:
                connection.close()
            if answer.status < 400:
                return told
            if answer.status == 404:
                return b""
            if answer.status not in (429, 503):
                raise RuntimeError(f"{method} {path}: {answer.status} {told[:200]!r}")
            time.sleep(0.5)

    def speak(self, sound: bytes, out: Path) -> None:
        begin = kept = time.monotonic()
        for at in range(0, len(sound) // 2, PIECE):
            time.sleep(max(0.0, begin + at / SAMPLE_RATE_HZ - time.monotonic()))
            piece = sound[2 * at : 2 * (at + PIECE)]
            self.ask("POST", f"/api/hear/{self.key}?take=1&rate={SAMPLE_RATE_HZ}&at={at}", piece)
            if time.monotonic() - kept > KEEP_S:
                self.keep(out)
                kept = time.monotonic()
        self.ask("POST", f"/api/stop/{self.key}?take=1")

    def finish(self, out: Path) -> None:
        """Waits for the last captions."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if json.loads(self.ask("GET", f"/api/state/{self.key}"))["live"]["state"] == "Stopped":
                break
            time.sleep(0.5)
        self.keep(out, ended=True)

    def keep(self, out: Path, ended: bool = False) -> None:
        told = self.ask("GET", f"/api/live/{self.key}/live.json")  # not before the first caption
        form: dict[str, Any] = json.loads(told or b'{"segments": [], "warnings": []}')
        draft = out.with_suffix(".draft")
        draft.write_text(json.dumps({**form, "ended": ended}))
        draft.replace(out)


def main(url: str, sound: str, out: str) -> None:
    visitor = Visitor(url)
    visitor.speak(Path(sound).read_bytes(), Path(out))
    visitor.finish(Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
