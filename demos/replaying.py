"""What `dragoman replay` does: it shows a session again, from the events that it left.

What `dragoman captions --json` printed, or `--log` wrote, is all there is of it: no model is loaded
and no sound is heard. A caption comes when it came, on the clock of its sound: behind what it had
heard by the lag that it had.
"""

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from dragoman.demos.stdout import say
from dragoman.demos.terminal import CaptionView, JsonLines, LiveView, PlainLines, clock
from dragoman.errors import INTERRUPTED, OK, InputError
from dragoman.pipeline.events import of_event
from dragoman.pipeline.lateness import told
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption


@dataclass
class Playing:
    """How far a session has been shown again."""

    name: str = ""
    heard_s: float = 0.0
    stopping: threading.Event = field(default_factory=threading.Event)

    def status(self, width: int) -> str:
        """The line below the captions, which cuts it to its ``width``."""
        return f"{clock(round(self.heard_s * SAMPLE_RATE_HZ))}   replay   Ctrl-C to end"

    def wait_until(self, begun: float, due_s: float) -> bool:
        """Waits for a time of the sound's clock; False where the user does not."""
        return not self.stopping.wait(max(0.0, begun + due_s - time.monotonic()))


def events(log: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each event with the number of its line; a last line that was torn is left out.

    Raises InputError for a file that cannot be read or holds something else.
    """
    try:
        lines = log.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {log}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{log} is not plain UTF-8 text") from None
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
            if not isinstance(event, dict) or "kind" not in event:
                raise ValueError("no object with a kind")
        except ValueError as error:
            if number == len(lines) > 1:
                return
            raise InputError(
                f"{log}, line {number}: {error}: give what `dragoman captions --json` printed"
            ) from None
        yield number, event


def run(log: Path, pace: str, as_json: bool) -> int:
    """Shows the session of ``log``; returns the exit code. Raises InputError."""
    shown, playing = list(events(log)), Playing()
    captions = [(_caption(log, *event), event[1]) for event in shown]
    if not any(caption for caption, _ in captions):
        raise InputError(f"{log} has no captions: give what `dragoman captions --json` printed")
    before = signal.signal(signal.SIGINT, lambda number, frame: playing.stopping.set())
    try:
        with _view(as_json, playing) as view:
            _play(captions, view, playing, pace)
    finally:
        signal.signal(signal.SIGINT, before)
    return INTERRUPTED if playing.stopping.is_set() else OK


def _caption(log: Path, number: int, event: dict[str, Any]) -> Caption | None:
    if event["kind"] in ("warning", "summary"):
        return None
    try:
        return of_event(event)
    except ValueError as error:
        raise InputError(f"{log}, line {number}: {error}") from None


def _view(as_json: bool, playing: Playing) -> CaptionView:
    console = Console(highlight=False)
    if as_json:
        return JsonLines(sys.stdout)
    return LiveView(console, playing.status) if console.is_terminal else PlainLines(sys.stdout)


def _play(
    captions: list[tuple[Caption | None, dict[str, Any]]],
    view: CaptionView,
    playing: Playing,
    pace: str,
) -> None:
    begun = time.monotonic()
    for caption, event in captions:
        if caption is None:
            _tell(event, view, playing)
            continue
        playing.name, heard_s = caption.session, caption.end / SAMPLE_RATE_HZ
        due_s = heard_s + caption.latency.get("lag_ms", 0) / 1000
        if pace != "fast" and not playing.wait_until(begun, due_s):
            return
        playing.heard_s = heard_s
        view.show(caption)


def _tell(event: dict[str, Any], view: CaptionView, playing: Playing) -> None:
    if isinstance(view, JsonLines):
        print(json.dumps(event, ensure_ascii=False), flush=True)
    elif event["kind"] == "warning":
        view.warn(str(event.get("message", "")), playing)
    elif line := told(event):
        say(line)
