"""Letters several lines high, drawn with blocks: text on a terminal that is read from a distance.

For :mod:`demos.big`. A cell of the terminal shows two by two points, and letters come from a font
of this machine. What is unusual: where it has no font for a text, that is found out by its letters
and not by its language.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# By a cell's points: 1 above left, 2 above right, 4 below left, 8 below right.
BLOCKS = np.array(list(" ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"))
FONTS = (
    *("DejaVuSans-Bold.ttf", "LiberationSans-Bold.ttf", "NotoSans-Bold.ttf"),
    *("Arial Bold.ttf", "arialbd.ttf"),
)
NO_LETTER = "\uffff"
LINE_LETTERS, LETTER_WIDTH = 24, 0.65  # of a line; of a letter's height, on the average
LINES, LINE_HEIGHT = 3, 1.2
LEAST_POINTS = 10  # of height: below that letters cannot be told apart

Font = ImageFont.FreeTypeFont


@lru_cache(maxsize=4)
def font(columns: int, rows: int) -> Font | None:
    """One of which so many ``columns`` and ``rows`` hold three lines of some 24 letters, or more;
    None where there is no font, or no room.
    """
    points = round(min(2 * columns / LINE_LETTERS / LETTER_WIDTH, 2 * rows / LINES / LINE_HEIGHT))
    if points < LEAST_POINTS:
        return None
    for name in FONTS:
        try:
            return ImageFont.truetype(name, points)
        except OSError:
            continue
    return None


@lru_cache(maxsize=1_000)
def writes(letter: str, with_font: Font) -> bool:
    """Whether the font has that letter."""
    shapes = [bytes(with_font.getmask(one)) for one in (letter, NO_LETTER)]  # type: ignore[arg-type]
    return letter.isspace() or shapes[0] != shapes[1]


def rows(with_font: Font) -> int:
    """How many lines of the terminal a line of these letters takes."""
    return (sum(with_font.getmetrics()) + 1) // 2


def places(words: Sequence[str], with_font: Font) -> list[int]:
    """The column at which each of ``words`` begins in a line, and at the end that of its end."""
    widths = [-(-with_font.getlength(f"{word} ") // 2) for word in words]
    return [int(at) for at in accumulate(widths, initial=0.0)]


def drawn(words: Sequence[str], with_font: Font) -> list[str]:
    """A line of ``words`` as lines of the terminal, all of one width."""
    at = places(words, with_font)
    image = Image.new("1", (2 * max(1, at[-1]), 2 * rows(with_font)))
    draw = ImageDraw.Draw(image)
    for word, column in zip(words, at, strict=False):
        draw.text((2 * column, 0), word, fill=1, font=with_font)
    points = np.asarray(image, dtype=np.uint8)
    cells = sum(
        points[y::2, x::2] << bit for bit, (y, x) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)])
    )
    return ["".join(row) for row in BLOCKS[cells]]
