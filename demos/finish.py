"""`dragoman finish`: a live session's document becomes files that can be delivered.

The captions are laid out by the rules of :mod:`pipeline.rules`, in any format; with the sound that
the session heard each of them is read a second time first (:mod:`pipeline.finishing`), and what
that changed is told. The session's own files stay as they are.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dragoman.demos import options
from dragoman.demos.stdout import say
from dragoman.errors import OK, InputError
from dragoman.pipeline.start import check
from dragoman.spec import ModelSpec

if TYPE_CHECKING:
    from dragoman.pipeline.finishing import Difference
    from dragoman.stages.messages import Caption, SessionOptions

FINISHED = ".finished"  # in the names of what is written
TEXTS: tuple[str, ...] = ("transcript", "translation")


def finish(
    session: Annotated[
        Path, typer.Argument(metavar="SESSION.json", help="What `dragoman captions` has left.")
    ],
    audio: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What the session heard: read it a second time."),
    ] = None,
    context: Annotated[
        bool, typer.Option("--context", help="Show the model what the neighbours of a text say.")
    ] = False,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "-o", help="Folder for the outputs; else beside the session."),
    ] = None,
    output_format: options.OutputFormat = None,
    text: options.Texts = options.USUAL_TEXTS,
    max_cps: options.MaxCps = 17.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace outputs that are there.")
    ] = False,
    model: options.Model = "nano",
    device: options.Device = "cpu",
    dtype: options.Dtype = "auto",
    audio_track: options.AudioTrack = None,
    channel: options.Channel = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, and nothing else.")
    ] = False,
    debug: options.Debug = False,
) -> int:
    """Files to deliver from a live session, heard a second time where its sound is there."""
    from dragoman.pipeline.documents import captions_of, document, read_document
    from dragoman.pipeline.outputs import chosen_texts, make_writable, planned, presented, save
    from dragoman.pipeline.rules import Rules

    formats, texts = options.formats(output_format), chosen_texts(options.parts(text))
    rules = Rules(chars_per_second=max_cps)
    options.log_to_stderr(debug)
    if context and audio is None:
        raise typer.BadParameter("--context is for a second reading: give --audio FILE, too")
    form = read_document(session)
    live, asked = captions_of(form), _options(form)
    name = session.name.removesuffix(".json") + FINISHED
    folder = session.parent if output_dir is None else output_dir
    outputs = planned(name, asked, formats, texts, rules)
    there = [path for path in (folder / one.file for one in outputs) if path.exists()]
    if there and not overwrite:
        raise InputError(f"{there[0]} is there already: give --overwrite to replace it")
    make_writable(folder)
    captions, changes_s, heard = live, form.get("shot_changes"), form["model"]
    told: list[str] = []
    if audio is not None:
        spec, heard = ModelSpec(model, device, dtype), model
        # There is time for the whole of the model, which need not be that of the session.
        asked = replace(asked, size="", draft_size="")
        check(spec, asked.language, asked.target_language)
        captions, found_s = _heard(live, audio, asked, spec, context, audio_track, channel, told)
        changes_s = changes_s if found_s is None else found_s
    shown, left_out = presented(captions, asked, heard)
    told += left_out
    of_live = () if audio is None else presented(live, asked, form["model"])[1]
    kept = [sentence for sentence in form["warnings"] if sentence not in of_live]
    warnings = [*dict.fromkeys([*kept, *told])]
    new = document(form["source"], heard, asked, form["duration"], captions, warnings, changes_s)
    _report(live, captions, save(outputs, folder, shown, new), told, as_json)
    return OK


def _options(form: dict[str, Any]) -> "SessionOptions":
    from dragoman.stages.messages import SessionOptions

    try:
        return SessionOptions(**form["options"])
    except TypeError as error:
        raise InputError(
            f"the document has options of another version ({error}): caption the recording anew"
        ) from error


def _heard(
    live: "list[Caption]",
    audio: Path,
    asked: "SessionOptions",
    spec: ModelSpec,
    context: bool,
    track: int | None,
    channel: int | None,
    told: list[str],
) -> "tuple[list[Caption], list[float] | None]":
    """The captions of a second reading, and the shot changes of ``audio`` if that is a film;
    ``told`` gets sentences about what was wrong with it.
    """
    from dragoman.pipeline.finishing import read_again
    from dragoman.pipeline.frames import shot_changes
    from dragoman.pipeline.media import probe, read_audio
    from dragoman.pipeline.pool import Pool
    from dragoman.pipeline.recipes import recipes
    from dragoman.pipeline.start import host, locate

    def warn(sentence: str) -> None:
        told.append(sentence.replace(str(audio), audio.name))

    sound = read_audio(audio, track=track, language=asked.language, channel=channel, warn=warn)
    changes_s = shot_changes(audio, warn) if probe(audio).has_video else None
    pool = Pool.start(host(ray=False), recipes(locate(spec))[1:], 1)
    try:
        return list(read_again(live, sound, asked, pool, context, warn)), changes_s
    finally:
        pool.stop()


def _report(
    live: "Sequence[Caption]",
    captions: "Sequence[Caption]",
    paths: Sequence[Path],
    told: Sequence[str],
    as_json: bool,
) -> None:
    from dragoman.pipeline.finishing import Difference, difference

    totals = dict.fromkeys(TEXTS, Difference())
    changes: list[dict[str, Any]] = []
    for before, after in zip(live, captions, strict=True):
        for name in TEXTS:
            old, new = (getattr(caption, name).whole for caption in (before, after))
            changed = difference(old, new)
            totals[name] += changed
            if changed.changed:
                changes.append({"start": before.start, "text": name, "live": old, "final": new})
    if as_json:
        form = {
            "outputs": list(map(str, paths)),
            **{name: {"words": d.words, "changed": d.changed} for name, d in totals.items()},
            "changes": [one | {"start": round(one["start"] / 16_000, 3)} for one in changes],
        }
        print(json.dumps(form, ensure_ascii=False, indent=1))
        return
    if captions is not live:
        _show(changes, totals)
    for line in (*paths, *told):
        say(line)


def _show(changes: "list[dict[str, Any]]", totals: "Mapping[str, Difference]") -> None:
    from dragoman.demos.terminal import clock

    for one in changes:
        say(f"[{clock(one['start'])}] - {one['live']}\n{' ' * 9}+ {one['final']}", sys.stdout)
    for name, d in totals.items():
        print(f"{name}: {d.changed} of {d.words} words of the live text have changed")
