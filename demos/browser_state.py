"""What is new for a page, as its scripts draw it: JSON with pieces of HTML.

Between :mod:`demos.browser_routes` and :mod:`demos.browser_view`. A page that listens asks several
times a second, so an answer costs what is new: rows are sent once, and files are written when
somebody downloads them.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from dragoman.demos import browser_inside as inside
from dragoman.demos import browser_view as view
from dragoman.demos.browser_recorded import Wav
from dragoman.demos.browser_video import Video
from dragoman.demos.browser_visitor import Visitor
from dragoman.demos.browser_visitors import Visitors
from dragoman.stages.messages import SAMPLE_RATE_HZ, SessionOptions

SOUND = "live.wav"


def live(visitor: Visitor, era: int, since: int) -> dict[str, Any]:
    """The transcript behind its first ``since`` rows, which the page has if it is the same era."""
    told = visitor.live
    now = told.era
    listening = told.listening  # before the captions: what ends meanwhile is told the next time
    known = since if era == now else 0
    rows, unsettled = told.rows(known)
    if told.era != now:  # it was cleared meanwhile
        return live(visitor, era, since)
    return {
        "era": now,
        "since": known,
        "rows": [view.row(row) for row in rows if view.is_shown(row)],
        "open": "".join(view.row(caption) for caption in unsettled if view.is_shown(caption)),
        "count": known + len(rows),
        "listening": listening,
        "state": told.state,
        "clock": view.clock_s(told.heard_s),
        "lag": view.lag(told.lag_s),
        "note": told.note,
        "problem": told.problem,
        "files": live_files(visitor),
        "shared": visitor.shared is not None,
    }


def video(
    visitor: Visitor, visitors: Visitors, number: int, since: int, whole: int
) -> dict[str, Any]:
    """The file of the Video tab, behind its first ``since`` lines if it is the same one."""
    shown = visitor.video
    if shown is None:
        return {"number": 0, "running": False}
    since = since if number == visitor.videos else 0
    done = shown.run.done
    lines = shown.captions(since)
    answer = {
        "number": visitor.videos,
        "since": since,
        "count": since + len(lines),
        "rows": [view.line(caption) for caption in lines],
        "running": not done,
        "name": shown.media.name,
        "heads": view.heads(shown.options),
    }
    if not done:
        waits = shown.run.waits
        said = "Waiting for a free place" if waits else f"Translating {shown.media.name}"
        return {**answer, "share": None if waits else shown.share, "status": view.working(said)}
    if whole != visitor.videos:
        answer |= _finished(visitor, visitors, shown)
    return answer


def _finished(visitor: Visitor, visitors: Visitors, shown: Video) -> dict[str, Any]:
    """What is shown once a file is through."""
    if shown.problem:
        return {"whole": visitor.videos, "status": view.problem(shown.problem)}
    if shown.saved is None:
        shown.saved = view.save(
            shown.media.parent,
            shown.media.name,
            visitors.model,
            shown.captions(),
            shown.options,
            shown.run.heard_s,
            shown.warnings,
        )
    root = f"api/video/{visitor.key}/{visitor.videos}"
    said = " ".join([shown.media.name, *(f"· {warning}" for warning in shown.warnings)])
    spoken = shown.captions()
    tracks = view.tracks(shown.saved, shown.options)
    return {
        "whole": visitor.videos,
        "status": view.done(said) if spoken else view.problem("No speech was heard in this file."),
        "player": view.player(root, shown.media, tracks, shown.info.has_video),
        "files": view.downloads(root, shown.saved),
        "gallery": view.gallery(root, shown.pictures()),
    }


def chosen(visitor: Visitor, visitors: Visitors) -> dict[str, Any]:
    """What is chosen for the next recording or file, and what there is to choose from."""
    return visitors.choices.offered(visitor.options)


def live_files(visitor: Visitor) -> list[str]:
    """The names of the files that a transcript can be downloaded as: its sound, and subtitles for
    each pair of languages in it.
    """
    sound = [SOUND] if visitor.live.recorded.samples else []
    pairs = enumerate(visitor.live.pairs)
    return sound + [name for at, pair in pairs for name in _file_names(visitor, at, pair)]


def write_live(visitor: Visitor, visitors: Visitors, name: str) -> Path | None:
    """Writes one of `live_files` but the sound as the transcript is now; None for another."""
    told, pairs = visitor.live, visitor.live.pairs
    named = [at for at, pair in enumerate(pairs) if name in _file_names(visitor, at, pair)]
    if not named:
        return None
    number, pair = named[0], pairs[named[0]]
    options = _options(visitor, pair)
    spoken = [c for c in told.captions() if (c.language, c.target_language) == pair]
    warnings = [
        f"{view.clock_s(hole.start / SAMPLE_RATE_HZ)}: {hole.sentence}" for hole in told.holes
    ]
    (path,) = view.save(
        visitor.folder, _stem(number), visitors.model, spoken, options, told.heard_s, warnings,
        only=name,
    )  # fmt: skip
    return path


def segments(visitor: Visitor) -> list[dict[str, Any]]:
    """What the Inside tab can show."""
    return inside.listed(visitor.live.history.finished())


def segment(visitor: Visitor, number: int) -> dict[str, Any] | None:
    """One of `segments`, all of it; None for another."""
    told = visitor.live
    updates = told.history.updates(number)
    if not updates or updates[-1].caption.kind != "final":
        return None
    return inside.segment(updates, told.recorded, visitor.options)


def segment_sound(visitor: Visitor, number: int) -> Wav | None:
    """The sound of one of `segments`; None for another."""
    updates = visitor.live.history.updates(number)
    if not updates:
        return None
    last = updates[-1].caption
    return visitor.live.recorded.wav(last.start, last.end)


def _file_names(visitor: Visitor, number: int, pair: tuple[str, str]) -> list[str]:
    return view.file_names(_stem(number), _options(visitor, pair))


def _stem(number: int) -> str:
    return "live" if not number else f"live-{number + 1}"


def _options(visitor: Visitor, pair: tuple[str, str]) -> SessionOptions:
    return replace(visitor.options, language=pair[0], target_language=pair[1])
