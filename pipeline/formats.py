"""The forms in which subtitles are written, one entry each; `json` is a document of its own.

Between `pipeline.subtitles`, which lays out cues, and `pipeline.outputs`, which writes files. A
format is added by an entry of FORMATS: commands, batches and the Python API know it then.

What is unusual: a text that a reader would take for something else, such as `<i>`, a number alone
or the times of another cue, is kept apart from it by a mark of direction, which nobody sees. Only
what a format cannot say at all is written with a letter that looks alike.
"""

import html
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pysubs2

from dragoman.models.words import one_line

UNKNOWN, SEVERAL = "und", "mul"
MARK = "\u200e"  # left-to-right mark: it has no width, and numbers and signs run as before
_TIME = re.compile(r"(?<=\d:)(?=\d\d[.,]\d)")  # where it takes in a mark
_TAG = re.compile(r"(?<=<)(?= *[/a-zA-Z])")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
# White letters, centred at the bottom, as players and broadcasters expect.
TTML = """<?xml version="1.0" encoding="UTF-8"?>
<tt xmlns="http://www.w3.org/ns/ttml" xmlns:tts="http://www.w3.org/ns/ttml#styling" xml:lang="{}">
<head><layout><region xml:id="bottom" tts:origin="10% 10%" tts:extent="80% 80%"
 tts:displayAlign="after" tts:textAlign="center" tts:color="white"/></layout></head>
<body region="bottom"><div>
{}
</div></body>
</tt>
"""


@dataclass(frozen=True)
class Cue:
    """One subtitle: shown from ``start_ms`` to ``end_ms``, ``lines`` from top to bottom.

    ``language`` is a tag of BCP 47: `mul` for several, `und` where it is not known. It tells no two
    cues apart.
    """

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]
    language: str = field(default=UNKNOWN, compare=False)


def tag(codes: Sequence[str]) -> str:
    """The tag of what is in the languages ``codes``."""
    return (SEVERAL if len(codes) > 1 else codes[0]) if codes else UNKNOWN


Writer = Callable[[Sequence[Cue]], str]  # the text of a whole file


def _by_library(name: str, escaped: Callable[[str], str]) -> Writer:
    """What pysubs2 calls ``name``, of lines as they must stand in the file."""

    def write(cues: Sequence[Cue]) -> str:
        file = pysubs2.SSAFile()
        for cue in cues:
            text = "\\N".join(map(escaped, _printable(cue)))
            file.append(pysubs2.SSAEvent(cue.start_ms, cue.end_ms, text))
        return file.to_string(name, keep_ssa_tags=True)

    return write


def _printable(cue: Cue) -> Iterator[str]:
    """The lines that hold something, without control characters. A backslash would start a code of
    the writer's.
    """
    for line in cue.lines:
        if kept := " ".join(_CONTROL.sub("", line).replace("\\", "⧵").split()):
            yield kept


def _in_srt(line: str) -> str:
    return _not_a_number(_TAG.sub(MARK, _TIME.sub(MARK, line)).replace("-->", f"--{MARK}>"))


def _in_vtt(line: str) -> str:
    return html.escape(_not_a_number(_TIME.sub(MARK, line)), quote=False)


def _in_ass(line: str) -> str:
    return line.replace("{", "｛").replace("}", "｝")  # not every player can escape them


def _not_a_number(line: str) -> str:
    """A line that readers take for the number of the next cue is marked as none."""
    return line + MARK if line.strip().isdecimal() else line


def _ttml(cues: Sequence[Cue]) -> str:
    languages = {cue.language for cue in cues}
    language = languages.pop() if len(languages) == 1 else UNKNOWN
    return TTML.format(language, "\n".join(map(_paragraph, cues)))


def _paragraph(cue: Cue) -> str:
    text = "<br/>".join(html.escape(line, quote=False) for line in _printable(cue))
    return f'<p begin="{_clock(cue.start_ms)}" end="{_clock(cue.end_ms)}">{text}</p>'


def _clock(ms: int) -> str:
    minutes, ms = divmod(ms, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{ms // 1000:02}.{ms % 1000:03}"


def _plain(cues: Sequence[Cue]) -> str:
    """One cue a line, without times."""
    return "".join(one_line(cue.lines) + "\n" for cue in cues)


def _table(cues: Sequence[Cue]) -> str:
    """Tab-separated, as whisper writes it: start and end in milliseconds, text."""
    rows = [(str(cue.start_ms), str(cue.end_ms), one_line(cue.lines)) for cue in cues]
    return "".join(
        "\t".join(part.replace("\t", " ") for part in row) + "\n"
        for row in [("start", "end", "text"), *rows]
    )


JSON, ALL = "json", "all"
FORMATS: dict[str, Writer] = {
    "srt": _by_library("srt", _in_srt),
    "vtt": _by_library("vtt", _in_vtt),
    "ass": _by_library("ass", _in_ass),
    "ttml": _ttml,
    "txt": _plain,
    "tsv": _table,
}
USUAL = ("srt", "vtt", JSON)  # what is written unless something else is asked for


def known() -> list[str]:
    """The names of all formats."""
    return [*FORMATS, JSON]
