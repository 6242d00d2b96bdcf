"""The forms in which subtitles are written, one entry each; `json` is a document of its own.

Between `pipeline.subtitles`, which lays out cues, and `pipeline.outputs`, which writes files. A
format is added by an entry of FORMATS: commands, batches and the Python API know it then.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pysubs2

from dragoman.models.words import one_line


@dataclass(frozen=True)
class Cue:
    """One subtitle: shown from ``start_ms`` to ``end_ms``, ``lines`` from top to bottom."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


Writer = Callable[[Sequence[Cue]], str]  # the text of a whole file


def _by_library(name: str) -> Writer:
    """What pysubs2 calls ``name``. Lines hold no markup, so braces are braces, not styles."""

    def write(cues: Sequence[Cue]) -> str:
        file = pysubs2.SSAFile()
        for cue in cues:
            text = "\n".join(_escaped(line, name) for line in cue.lines)
            file.append(pysubs2.SSAEvent(cue.start_ms, cue.end_ms, text))
        return file.to_string(name, keep_ssa_tags=True)

    return write


def _escaped(line: str, name: str) -> str:
    """``line`` as it must stand in the file; a backslash would start a code of the writer's."""
    line = line.replace("\\", "⧵").replace("-->", "→")
    if name == "vtt":
        line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return line


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


JSON = "json"
FORMATS: dict[str, Writer] = {
    "srt": _by_library("srt"),
    "vtt": _by_library("vtt"),
    "txt": _plain,
    "tsv": _table,
}
USUAL = ("srt", "vtt", JSON)  # what is written unless something else is asked for


def known() -> list[str]:
    """The names of all formats."""
    return [*FORMATS, JSON]
