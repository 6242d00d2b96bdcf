"""The live view for a room: the newest words in large letters, over the whole terminal.

Beside :class:`demos.terminal.LiveView`, whose status line it keeps. It shows one language, as there
is room for some twenty words. Where no font of this machine has the letters of a text, or the
terminal has no room for them, they are as usual, and bold.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text as RichText

from dragoman.demos import letters
from dragoman.demos.certainty import Kind, Part, parts
from dragoman.demos.choice import Choice
from dragoman.demos.stdout import say
from dragoman.demos.terminal import TRANSLATION_STYLE, Listening, LiveView, styles
from dragoman.models.words import spaced_words
from dragoman.stages.messages import Caption

KEPT = 3  # finished segments, which fill the screen above the one that goes on

Word = tuple[str, Kind]


class BigView(LiveView):
    """One language of the captions, the one that is chosen, in large letters."""

    def __init__(self, console: Console, status: Callable[[int], str], choice: Choice) -> None:
        self._choice = choice
        self._finished: deque[Caption] = deque(maxlen=KEPT)
        self._told: list[str] = []  # what has no place between the large letters
        super().__init__(console, status, screen=True)  # which renders

    def __exit__(self, kind, error, trace) -> None:
        shown, self._current = self._current, None
        super().__exit__(kind, error, trace)
        for caption in [*self._finished, *([shown] if shown else [])][-1:]:
            self._console.print(self._lines(caption))
        for message in self._told:
            say(message)

    def show(self, caption: Caption) -> None:
        self._current = None if caption.kind == "final" else caption
        if caption.kind == "final" and caption.transcript.whole:
            self._finished.append(caption)
        self._live.refresh()

    def warn(self, message: str, session: Listening) -> None:
        self._told.append(message)

    def _render(self) -> "_Screen":
        shown = [*self._finished, *([self._current] if self._current else [])]
        return _Screen([parts(self._choice.text(one)) for one in shown], self._status_line)


class _Screen:
    """Texts, the newest at the bottom, above the status line; for a terminal of any size."""

    def __init__(self, texts: Sequence[list[Part]], status: Callable[[int], RichText]) -> None:
        self._texts, self._status = texts, status

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.size
        room = max(1, height - 2)
        rows = [row for text in self._texts for row in _rows(text, width, room, console)]
        shown: list[RichText] = []
        while rows and len(shown) + len(rows[-1]) <= room:
            shown = [*rows.pop(), *shown]
        yield from [RichText()] * (room - len(shown))
        yield from shown
        yield RichText()
        yield self._status(width)


def _rows(text: list[Part], width: int, room: int, console: Console) -> list[list[RichText]]:
    """``text`` in lines of ``width`` columns, each as lines of the terminal: large ones, if that
    can be.
    """
    known = styles(console, TRANSLATION_STYLE)
    words: list[Word] = [
        (word.strip(), part.kind) for part in text for word in spaced_words(part.text)
    ]
    font = letters.font(width, room)
    if font is None or not all(letters.writes(c, font) for word, _ in words for c in word):
        usual = RichText.assemble(*((part.text, known[part.kind]) for part in text))
        return [[line] for line in [*usual.wrap(console, width), RichText()]]
    return [_large(row, width, known, font) for row in _wrapped(words, width, font)]


def _wrapped(words: Sequence[Word], width: int, font: letters.Font) -> list[list[Word]]:
    """``words`` in lines that fit; one that is too wide by itself is cut off at the edge."""
    rows: list[list[Word]] = []
    for word in words:
        row = [*rows[-1], word] if rows else [word]
        if rows and letters.places([said for said, _ in row], font)[-1] <= width:
            rows[-1] = row
        else:
            rows.append([word])
    return rows


def _large(
    row: Sequence[Word], width: int, known: Mapping[Kind, str], font: letters.Font
) -> list[RichText]:
    words = [word for word, _ in row]
    places = letters.places(words, font)
    found = []
    for line in letters.drawn(words, font):
        large = RichText(line[:width], no_wrap=True)
        for (_, kind), begin, end in zip(row, places, places[1:], strict=False):
            large.stylize(known[kind], begin, end)
        found.append(large)
    return found
