"""`dragoman check`: whether subtitle files keep to the rules that broadcasters have, and mending.

A line for each fault, as compilers write them, so that editors and scripts can read them. Judging
is :mod:`pipeline.judging`, reading :mod:`pipeline.subtitle_files`; no model is needed. A file is
never changed: what is mended is written beside it, for a person to compare.
"""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dragoman.demos import options
from dragoman.demos.stdout import say
from dragoman.errors import FAILED, NO_INPUT, OK, InputError, UsageError
from dragoman.models import languages

if TYPE_CHECKING:
    from dragoman.pipeline.judging import Fault, Standard
    from dragoman.pipeline.rules import Rules
    from dragoman.pipeline.subtitle_files import SubtitleFile


@dataclass
class Verdict:
    """What came of one file with so many ``cues``. ``fixed`` is the path of the mended file and
    ``left`` what is wrong with that; ``problem`` says why it could not be judged or written.
    """

    path: Path
    cues: int = 0
    faults: "list[Fault]" = field(default_factory=list)
    fixed: Path | None = None
    left: "list[Fault]" = field(default_factory=list)
    problem: str = ""
    code: int = OK


def check(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help=".srt, .vtt, .ass, .ssa, .ttml, .dfxp.")
    ],
    language: Annotated[
        str | None,
        typer.Option(
            metavar="CODE[-CODE]",
            help="Language of the text, two for both in each cue; else as in NAME.es-en.srt.",
        ),
    ] = None,
    max_cps: options.MaxCps = 17.0,
    fps: Annotated[float, typer.Option(help="Frames a second: gaps are at least two frames.")] = 24,
    video: Annotated[
        Path | None,
        typer.Option(metavar="FILM", help="Judge also by the shot changes of this film."),
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Write what can be mended to NAME.fixed.EXT.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a NAME.fixed.EXT that is there.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, and nothing else.")
    ] = False,
) -> int:
    """Judge subtitles: times, lines, reading speed, gaps, overlaps, order, encoding, shots."""
    from dragoman.pipeline.rules import Rules

    rules = Rules(chars_per_second=max_cps, fps=fps)
    codes = None if language is None else _codes(language)
    changes_s = () if video is None else _changes(video)
    verdicts: list[Verdict] = []
    for path in files:
        verdict = judge(path, rules, codes, changes_s, fix=fix, overwrite=overwrite)
        verdicts.append(verdict)
        if not as_json:
            _show(verdict)
    if as_json:
        print(json.dumps([_form(one) for one in verdicts], ensure_ascii=False, indent=1))
    return max(verdict.code for verdict in verdicts)


def judge(
    path: Path,
    rules: "Rules",
    codes: tuple[str, ...] | None = None,
    changes_s: tuple[float, ...] = (),
    *,
    fix: bool = False,
    overwrite: bool = False,
) -> Verdict:
    """Judges the file at ``path``, in the languages that its name tells if ``codes`` are None.
    ``changes_s`` are the shot changes of its film, in seconds. With ``fix`` writes the mended file.
    """
    from dragoman.pipeline.judging import Standard, faults
    from dragoman.pipeline.subtitle_files import fixed_path, read

    try:
        file = read(path, codes)
    except InputError as error:
        return Verdict(path, problem=str(error), code=NO_INPUT)
    standard = Standard(rules, file.codes, changes_s)
    found = [*file.faults, *faults(file.cues, standard)]
    verdict = Verdict(path, len(file.cues), found, code=FAILED if found else OK)
    if fix and found:
        target = fixed_path(path)
        if target.exists() and not overwrite:
            verdict.problem = f"{target} is there already: give --overwrite to replace it"
        else:
            _mend(verdict, target, file, standard)
    return verdict


def _mend(verdict: Verdict, target: Path, file: "SubtitleFile", standard: "Standard") -> None:
    from dragoman.pipeline.judging import faults, mended
    from dragoman.pipeline.subtitles import write_whole

    new = mended(file.cues, standard)
    try:
        write_whole(target, file.text_with(new))
    except OSError as error:
        verdict.problem = f"{target} cannot be written ({error.strerror})"
        return
    verdict.fixed = target
    verdict.left = faults([cue for _, cue in new], standard)
    verdict.code = FAILED if verdict.left else OK


def _changes(film: Path) -> tuple[float, ...]:
    from dragoman.pipeline.frames import shot_changes
    from dragoman.pipeline.media import probe

    if not probe(film).has_video:
        raise InputError(f"{film} has no picture and so no shot changes: give the film")
    return tuple(shot_changes(film, lambda told: say(f"dragoman: {told}")))


def _codes(language: str) -> tuple[str, ...]:
    from dragoman.pipeline.subtitle_files import parts

    codes = tuple(languages.find(part).code for part in parts(language))
    if len(codes) > 2:
        raise UsageError(f"--language {language!r} names {len(codes)} languages: give one or two")
    return codes


def _show(verdict: Verdict) -> None:
    """The faults, on stdout; of a mended file those that are left, as faults of that."""
    shown = verdict.path if verdict.fixed is None else verdict.fixed
    for fault in verdict.faults if verdict.fixed is None else verdict.left:
        at = f"cue {fault.cue}: " if fault.cue else ""
        what = f"{fault.what}: got {fault.got}, allowed {fault.allowed}"
        say(f"{shown}: {at}{what}", sys.stdout)
    if verdict.fixed is not None:
        count = f"{len(verdict.left)} of {len(verdict.faults)} faults are left"
        say(f"{verdict.path}: mended in {verdict.fixed}: {count}", sys.stdout)
    if verdict.problem:
        say(f"dragoman: {verdict.problem}")


def _form(verdict: Verdict) -> dict[str, Any]:
    return {
        "file": str(verdict.path),
        "cues": verdict.cues,
        "faults": [asdict(fault) for fault in verdict.faults],
        "fixed": None if verdict.fixed is None else str(verdict.fixed),
        "left": [asdict(fault) for fault in verdict.left],
        "problem": verdict.problem,
    }
