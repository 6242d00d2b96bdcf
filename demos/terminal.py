"""Captions on a terminal, in three forms: a live view, plain lines, and JSON lines.

The live view keeps the current segment and a status line at the bottom and lets finished segments
scroll up, once and for good. What may still change is grey, and a word of which the model is unsure
is dimmed. Where stdout is no terminal, only finished segments are printed.
"""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import IO, Protocol, Self

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text as RichText

from dragoman.demos.certainty import Kind, parts
from dragoman.demos.stdout import printable, say
from dragoman.models.words import columns
from dragoman.pipeline.events import to_json, warning
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption, Text

METER_FLOOR_DBFS, METER_CELLS = -60, 10

TAIL_STYLE, TAIL_WITHOUT_COLOR = "bright_black", "dim italic"
UNSURE_STYLE = "dim"
WARNING_STYLE = "yellow"
TRANSLATION_STYLE = "bold"


class Listening(Protocol):
    """A session, or one that is shown again: its name, and how much of it has been heard."""

    @property
    def name(self) -> str: ...

    @property
    def heard_s(self) -> float: ...


class CaptionView(Protocol):
    """Where captions are shown; a context manager, open while a session runs."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, caption: Caption) -> None: ...

    def warn(self, message: str, session: Listening) -> None:
        """Tells what has happened to the session, whose captions go on."""
        ...


class _Plain:
    """What the views without a screen share: a stream, and nothing to open or to close."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind, error, trace) -> None:
        pass


class JsonLines(_Plain):
    """One event a line, at once."""

    def show(self, caption: Caption) -> None:
        print(to_json(caption), file=self._out, flush=True)

    def warn(self, message: str, session: Listening) -> None:
        print(warning(session.name, session.heard_s, message), file=self._out, flush=True)


class PlainLines(_Plain):
    """Finished segments: a line of transcript, a line of translation."""

    def show(self, caption: Caption) -> None:
        if caption.kind == "final" and caption.transcript.whole:
            time = clock(caption.start)
            print(f"[{time}] {caption.transcript.whole}", file=self._out)
            below = f"{' ' * (len(time) + 3)}{caption.translation.whole}"
            print(below, file=self._out, flush=True)

    def warn(self, message: str, session: Listening) -> None:
        say(message)


class LiveView:
    """The current segment above a status line, which ``status`` writes anew at every refresh for so
    many columns. ``screen``: over the whole terminal, which is as it was before afterwards.
    """

    def __init__(
        self, console: Console, status: Callable[[int], str], screen: bool = False
    ) -> None:
        self._console, self._status = console, status
        self._current: Caption | None = None
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=8,
            transient=True,
            screen=screen,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self._current is not None:  # an unfinished segment stays readable
            self._console.print(self._lines(self._current))
            self._current = None
        self._live.stop()

    def show(self, caption: Caption) -> None:
        self._current = None if caption.kind == "final" else caption
        self._live.refresh()
        if caption.kind == "final" and caption.transcript.whole:
            self._console.print(self._lines(caption))

    def warn(self, message: str, session: Listening) -> None:
        self._console.print(RichText(printable(message), style=WARNING_STYLE))

    def _render(self) -> RenderableType:
        status = self._status_line(self._console.width)
        return (
            status if self._current is None else _Newest(Group(self._lines(self._current), status))
        )

    def _lines(self, caption: Caption) -> Group:
        return lines(caption, self._console)

    def _status_line(self, width: int) -> RichText:
        text = printable(self._status(width))
        return RichText(text, style="dim", overflow="ellipsis", no_wrap=True)


class _Newest:
    """The last lines of ``whole`` that a terminal has room for: the newest words are there."""

    def __init__(self, whole: Group) -> None:
        self._whole = whole

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        found = console.render_lines(self._whole, options, pad=False)
        for line in found[-max(1, options.size.height - 1) :]:
            yield from line
            yield Segment.line()


def styles(console: Console, style: str = "") -> dict[Kind, str]:
    """How ``console`` shows the parts of a text of that ``style``. Without colours, as NO_COLOR
    asks for, what may still change is told by its slant.
    """
    return {
        "sure": style or "default",
        "unsure": f"{style} {UNSURE_STYLE}".strip(),
        "tail": TAIL_WITHOUT_COLOR if console.no_color else TAIL_STYLE,
    }


def lines(caption: Caption, console: Console) -> Group:
    """Two lines for ``console``: time and transcript, then the translation below it."""
    said, translated = styles(console), styles(console, TRANSLATION_STYLE)
    time = clock(caption.start)
    transcript = RichText(f"{time}  ", style="cyan").append_text(_styled(caption.transcript, said))
    indented = RichText(" " * (len(time) + 2))
    return Group(transcript, indented.append_text(_styled(caption.translation, translated)))


def clock(sample: int) -> str:
    """A time of the stream for people: `0:07.4`, `1:02:03.0`."""
    tenths = sample * 10 // SAMPLE_RATE_HZ
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{head}:{tenths // 10:02}.{tenths % 10}"


def meter(dbfs: float) -> str:
    """How loud it is, as a bar of ten cells and in dBFS: `▮▮▮▮▮▮▯▯▯▯ -24 dB`."""
    cells = round((dbfs - METER_FLOOR_DBFS) / -METER_FLOOR_DBFS * METER_CELLS)
    lit = min(METER_CELLS, max(0, cells))
    return f"{'▮' * lit}{'▯' * (METER_CELLS - lit)} {dbfs:3.0f} dB"


def fitted(parts: Sequence[str], width: int) -> str:
    """Parts of a status line, the first ones, as many as ``width`` columns have room for."""
    for gap in ("   ", "  "):
        if columns(gap.join(parts)) <= width:
            return gap.join(parts)
    return fitted(parts[:-1], width) if len(parts) > 1 else parts[0]


def _styled(text: Text, known: Mapping[Kind, str]) -> RichText:
    # Parts keep a style of their own: the line's base style is that of its first part, the time.
    return RichText.assemble(*((part.text, known[part.kind]) for part in parts(text)))
