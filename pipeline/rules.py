"""The rules of subtitles: one table by which they are laid out and by which any file is judged.

Place: under `pipeline.subtitles`, which writes by it, and `pipeline.judging`, which judges. The
figures are those that broadcasters ask for. Source: Netflix's Timed Text Style Guides, "General
Requirements" and "Character Limitation"; the reading speed is their 17 characters a second for
adults, and 21 is the most that any of their languages allows.

What is unusual: characters are counted as columns (:func:`models.words.columns`), of which a wide
letter takes two. So one reading speed serves for all scripts: 17 columns are 8.5 Chinese letters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dragoman.errors import UsageError
from dragoman.models.words import columns

LINE_CHARS = 42
# Columns of a line by language: 16 Chinese or Korean and 13 Japanese letters, and 35 in Thai, where
# a letter with its marks is taken for one character here; other languages have 42. Latin letters,
# spaces and punctuation count half in Korean, as they do in columns. Lao, Khmer and Burmese, which
# have no guide, are taken for Thai.
LINE_COLUMNS = {"zh": 32, "yue": 32, "ko": 32, "ja": 26, "th": 35, "lo": 35, "km": 35, "my": 35}
FASTEST = 21.0  # characters a second, whatever is asked for
GRID_MS = 10  # of all times: the finest that ASS files have, so that every format says the same


@dataclass(frozen=True)
class Rules:
    """How long cues may stay, how fast they may be read, how far apart they must be.

    ``chars_per_second`` is at most 21. ``fps`` are the frames of the video, of which
    ``gap_frames`` must lie between two cues: 24 a second, the fewest that are usual, give a gap
    that serves for all videos. A border of a cue that is up to ``near_frames`` from a shot change
    is seen together with it, one ``after_frames`` behind it is not (:mod:`pipeline.snapping`).
    Raises UsageError for figures that make no sense.
    """

    lines: int = 2
    chars_per_second: float = 17.0
    shortest_ms: int = 1_000
    longest_ms: int = 7_000
    gap_frames: int = 2
    near_frames: int = 7
    after_frames: int = 12
    fps: float = 24.0

    def __post_init__(self) -> None:
        if not 0 < self.chars_per_second <= FASTEST:
            raise UsageError(
                f"{self.chars_per_second:g} characters a second cannot be asked for: "
                f"give more than 0 and at most {FASTEST:g}"
            )
        if self.fps <= 0:
            raise UsageError(f"{self.fps:g} frames a second make no sense: give more than 0")

    @property
    def gap_ms(self) -> int:
        """The shortest gap, in whole milliseconds: files have no finer times."""
        return int(self.gap_frames * 1000 / self.fps)

    @property
    def frame_ms(self) -> int:
        """How long a frame is shown, rounded up."""
        return math.ceil(1000 / self.fps)

    @property
    def near_ms(self) -> int:
        return int(self.near_frames * 1000 / self.fps)

    @property
    def after_ms(self) -> int:
        return math.ceil(self.after_frames * 1000 / self.fps)

    def needed_ms(self, characters: int) -> int:
        """How long so many characters must stay: within the longest time, whatever their number."""
        reading = math.ceil(characters * 1000 / self.chars_per_second)
        return min(max(self.shortest_ms, reading), self.longest_ms)


def line_columns(code: str) -> int:
    """How wide a line may be in the language with this ISO 639 ``code``."""
    return LINE_COLUMNS.get(code, LINE_CHARS)


def characters(lines: Sequence[str], bilingual: bool = False) -> int:
    """How much there is to read: all lines, or the longer of two languages, as who reads one of
    them does not read the other.
    """
    widths = [columns(line) for line in lines]
    return max(widths, default=0) if bilingual else sum(widths)
