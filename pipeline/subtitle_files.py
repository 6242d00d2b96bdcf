"""Reads subtitle files of others, and writes them again with other times and lines.

For `dragoman check`, before and after :mod:`pipeline.judging`. pysubs2 reads the formats. Tags stay
as they are in cues whose lines are not broken anew; they count as nothing when lines are measured.

What is unusual: of a WebVTT file only the cues go to pysubs2, which would take notes, styles and
the names of cues for text.
"""

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree.ElementTree import ParseError

from pysubs2 import SSAEvent, SSAFile
from pysubs2.exceptions import Pysubs2Error

from dragoman.errors import InputError
from dragoman.models.languages import LANGUAGES
from dragoman.pipeline.formats import FORMATS, Cue, tag
from dragoman.pipeline.judging import Fault

KINDS = {
    ".srt": "srt",
    ".vtt": "vtt",
    ".ass": "ass",
    ".ssa": "ssa",
    ".ttml": "ttml",
    ".dfxp": "ttml",
}
# What is no text: codes and comments in braces, tags, and WebVTT's times within a cue.
_SSA = re.compile(r"\{[^}]*\}")
_HTML = re.compile(r"\{\\[^}]*\}|</?[a-zA-Z][^>]*>|<[\d:.]+>")
_TAGS = {"ass": _SSA, "ssa": _SSA, "srt": _HTML, "vtt": _HTML}
# `es` and `spa` alike.
_BY_TAG = {tag: one.code for one in LANGUAGES.values() for tag in (*one.tags, one.code)}
FIXED = ".fixed"  # in the name of a file that was mended
# What files that are not in UTF-8 mostly are, by language; in Latin letters and else cp1252.
_OLD = {
    **dict.fromkeys(("bs", "cs", "hr", "hu", "pl", "ro", "sk", "sl", "sq"), "cp1250"),
    **dict.fromkeys(("be", "bg", "mk", "ru", "sr", "uk"), "cp1251"),
    **dict.fromkeys(("ar", "fa", "ur"), "cp1256"),
    **dict.fromkeys(("et", "lt", "lv"), "cp1257"),
    **{"el": "cp1253", "he": "cp1255", "ja": "cp932", "ko": "cp949", "th": "cp874"},
    **{"tr": "cp1254", "vi": "cp1258", "yi": "cp1255", "yue": "big5hkscs", "zh": "gb18030"},
}
_USUAL = "cp1252"
_NOTE = re.compile(r"\s*(NOTE|STYLE)(\s|$)")
_REGIONAL = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-[A-Z]{2}|-\d{3})?")  # zh-TW, sr-Latn, es-419
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class SubtitleFile:
    """A file: its ``cues``, the ``events`` that pysubs2 made of them, and ``faults`` of the file as
    such. ``codes`` are its languages.
    """

    path: Path
    kind: str
    whole: SSAFile
    events: list[SSAEvent]
    cues: list[Cue]
    faults: list[Fault]
    codes: tuple[str, ...]

    def text_with(self, cues: Iterable[tuple[int, Cue]]) -> str:
        """The text of the file with these ``cues``, each with the index of the one it was."""
        new = [self._event(at, cue) for at, cue in cues]
        if self.kind == "ttml":
            written = [_cue(event, self.kind) for event in new]
            return FORMATS["ttml"]([replace(cue, language=tag(self.codes)) for cue in written])
        others = [event for event in self.whole.events if not event.is_text]
        out = SSAFile()
        out.info, out.styles = self.whole.info, self.whole.styles
        out.fonts_opaque, out.events = self.whole.fonts_opaque, [*others, *new]
        return out.to_string(self.kind, keep_ssa_tags=True)

    def _event(self, at: int, cue: Cue) -> SSAEvent:
        event = self.events[at].copy()
        event.start, event.end = cue.start_ms, cue.end_ms
        if cue.lines != self.cues[at].lines:
            lines = cue.lines if self.kind != "vtt" else [html.escape(x, False) for x in cue.lines]
            event.text = "\\N".join(lines)
        return event


def fixed_path(path: Path) -> Path:
    """What the mended form of the file at ``path`` is called."""
    return path.with_name(f"{path.stem}{FIXED}{path.suffix}")


def parts(said: str) -> list[str]:
    """The languages in `es-en` or `es`; of `pt-BR` and `zh-Hant-TW` the first part alone is one."""
    return said.split("-", 1)[:1] if _REGIONAL.fullmatch(said) else said.split("-")


def read(path: Path, codes: tuple[str, ...] | None = None) -> SubtitleFile:
    """The file at ``path``, in the languages ``codes``; None: those that its name tells.

    Raises InputError for what is missing or holds no subtitles.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path} is of a kind that is not read: give {', '.join(KINDS)}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the name") from error
    codes = _codes(path) if codes is None else codes
    text, faults = _decoded(data, next((_OLD[code] for code in codes if code in _OLD), _USUAL))
    faults += _header(text, kind)
    whole = _parsed(path, text, kind)
    events = [event for event in whole.events if event.is_text]
    if not events and not _is_empty(text, kind):
        raise InputError(f"{path} holds no subtitles: check that it is a {kind} file")
    cues = [_cue(event, kind) for event in events]
    return SubtitleFile(path, kind, whole, events, cues, faults, codes)


def _decoded(data: bytes, old: str) -> tuple[str, list[Fault]]:
    if data[:2] in _UTF16:
        return data.decode("utf-16", "replace"), [Fault(0, "encoding", "UTF-16", "UTF-8")]
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        got = f"byte {data[error.start]:#04x} at {error.start}, so it is taken for {old}"
        return data.decode(old, "replace"), [Fault(0, "encoding", got, "UTF-8")]


def _header(text: str, kind: str) -> list[Fault]:
    if kind != "vtt" or text.startswith("WEBVTT"):
        return []
    got = repr(text.partition("\n")[0][:20])
    return [Fault(0, "header", f"{got} in the first line", "WEBVTT")]


def _is_empty(text: str, kind: str) -> bool:
    """Whether the file says itself that it has no cues."""
    if kind == "srt":
        return not text.strip()
    beginning = {"vtt": "WEBVTT", "ttml": "<"}.get(kind, "[Script Info]")
    return text.lstrip().startswith(beginning)


def _parsed(path: Path, text: str, kind: str) -> SSAFile:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    options = {"keep_html_tags": True} if kind in ("srt", "vtt") else {}
    try:
        return SSAFile.from_string(_cues_only(text) if kind == "vtt" else text, kind, **options)
    except (Pysubs2Error, ParseError, NotImplementedError, ValueError, KeyError) as error:
        raise InputError(f"{path} is not a {kind} file that can be read ({error})") from error


def _cues_only(text: str) -> str:
    """The cues of a WebVTT file, from their times on."""
    out = ["WEBVTT"]
    for block in re.split(r"\n[ \t]*\n", text):
        before, arrow, after = block.partition("-->")
        if arrow and not _NOTE.match(block):
            out.append(before.rpartition("\n")[2] + arrow + after.rstrip("\n"))
    return "\n\n".join(out) + "\n"


def _cue(event: SSAEvent, kind: str) -> Cue:
    text = _TAGS[kind].sub("", event.text) if kind in _TAGS else event.text
    text = text.replace("\\h", " ").replace("\\n", "\\N")
    text = html.unescape(text) if kind == "vtt" else text
    lines = tuple(line.strip() for line in re.split(r"\\N|\n", text))
    return Cue(event.start, event.end, lines)


def _codes(path: Path) -> tuple[str, ...]:
    """`talk.es.srt` is in Spanish, `talk.es-en.srt` in two languages; other names tell nothing."""
    said = Path(path.stem.removesuffix(FIXED)).suffix.removeprefix(".")
    found = [_BY_TAG.get(part.lower()) for part in parts(said)]
    return tuple(code for code in found if code) if len(found) <= 2 and all(found) else ()
