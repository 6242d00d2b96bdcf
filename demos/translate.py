"""`dragoman translate`: subtitles for video and audio files, and the code that says how it went.

The work is that of :mod:`pipeline.translate`; here its events go to a screen, and what went wrong
is said at the end. Heavy imports wait until the command runs.
"""

import json
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dragoman.demos import options
from dragoman.demos.stdout import own_stdout, say
from dragoman.errors import FAILED, INTERRUPTED, NO_INPUT, OK, DragomanError, exit_code
from dragoman.pipeline.start import check, session_options
from dragoman.spec import BATCH_SIZE, ModelSpec

if TYPE_CHECKING:
    from dragoman.demos.progress import BatchView
    from dragoman.pipeline.batch_file import Result
    from dragoman.pipeline.batch_options import BatchOptions
    from dragoman.pipeline.translate import Event


def translate(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Files, folders, or quoted patterns.")
    ],
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "-o", help="Folder for the outputs; else beside each file."),
    ] = None,
    language: options.Language = "es",
    target_language: options.TargetLanguage = "en",
    output_format: options.OutputFormat = None,
    text: options.Texts = options.USUAL_TEXTS,
    max_cps: options.MaxCps = 17.0,
    mux: Annotated[
        bool, typer.Option("--mux", help="Also copy each film, with the texts as tracks.")
    ] = False,
    burn_in: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Also copy each film, with this text in its picture."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Do finished files again, replace any outputs.")
    ] = False,
    model: options.Model = "nano",
    device: options.Device = "cpu",
    dtype: options.Dtype = "auto",
    size: options.Size = "",
    pad_audio: options.PadAudio = False,
    prompt_style: options.PromptStyle = "short",
    min_confidence: options.MinConfidence = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; else one for each core or GPU.")
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option(
            min=1, help="Segments that share the passes of the model; 1: none, slower, same bits."
        ),
    ] = BATCH_SIZE,
    endpoint: options.Endpoint = None,
    audio_track: options.AudioTrack = None,
    channel: options.Channel = None,
    address: options.Address = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document about the run, nothing else.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the paths of the outputs, nothing else.")
    ] = False,
    summary_json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the document of --json to this file."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be done and how long it is; do nothing."),
    ] = False,
    debug: options.Debug = False,
) -> int:
    """Subtitles for files and folders. Transcript, translation, and both together."""
    if as_json and quiet:
        raise typer.BadParameter("--json and --quiet exclude each other: give one of them")
    from dragoman.pipeline.outputs import chosen_texts
    from dragoman.pipeline.rules import Rules

    formats, texts = options.formats(output_format), chosen_texts(options.parts(text))
    burnt = None if burn_in is None else chosen_texts([burn_in])[0]
    rules = Rules(chars_per_second=max_cps)
    options.log_to_stderr(debug)
    spec = ModelSpec(model, device, dtype, size, address=address)
    check(spec, language, target_language)
    from dragoman.pipeline.batch_options import BatchOptions

    asked = BatchOptions(
        session=session_options(
            spec,
            language=language,
            target_language=target_language,
            pad_audio=pad_audio,
            prompt_style=prompt_style,
            min_confidence=min_confidence,
            endpoint_ms=endpoint,
        ),
        spec=spec,
        formats=formats,
        texts=texts,
        overwrite=overwrite,
        channel=channel,
        track=audio_track,
        rules=rules,
        mux=mux,
        burn_in=burnt,
    )
    return run(
        paths,
        output_dir,
        asked,
        workers,
        batch_size,
        as_json=as_json,
        quiet=quiet,
        summary_json=summary_json,
        dry_run=dry_run,
    )


def run(
    paths: list[str],
    output_dir: Path | None,
    options: "BatchOptions",
    workers: int | None = None,
    batch_size: int = BATCH_SIZE,
    *,
    as_json: bool = False,
    quiet: bool = False,
    summary_json: Path | None = None,
    dry_run: bool = False,
) -> int:
    """Translates ``paths`` and reports; returns the exit code."""
    from dragoman.demos.progress import view
    from dragoman.pipeline.subtitles import write_whole
    from dragoman.pipeline.translate import Found, Planned
    from dragoman.pipeline.translate import translate as events_of

    begin = time.monotonic()
    bars = not (as_json or quiet)
    results: list[Result] = []
    planned: list[tuple[Path, float | None]] = []
    interrupted, code = False, OK
    made = events_of(
        paths,
        options,
        output_dir,
        workers=workers,
        batch_size=batch_size,
        bars=bars,
        dry_run=dry_run,
    )
    with closing(made) as events:
        found = next(events)
        assert isinstance(found, Found), "the first event"
        screen = view(as_json=as_json, quiet=quiet, files=found.inputs)
        try:
            with screen, own_stdout():  # the screen was handed it before
                for event in events:
                    if isinstance(event, Planned):
                        planned += event.to_do
                    if isinstance(event, Planned) and dry_run:
                        screen.planned(event.to_do)
                    else:
                        _show(event, results, screen)
        except KeyboardInterrupt:
            interrupted = True
        except DragomanError as error:
            if not planned:
                raise
            results += _given_up(planned, results, error)
            code = exit_code(error)
    form = summary(results, time.monotonic() - begin, interrupted, planned if dry_run else ())
    text = json.dumps(form, ensure_ascii=False, indent=1)
    if as_json:
        print(text)
    if summary_json is not None:
        write_whole(summary_json, text + "\n")
    reported = _report(results, interrupted)
    return code or reported


def _given_up(
    planned: "Sequence[tuple[Path, float | None]]", results: "list[Result]", error: DragomanError
) -> "list[Result]":
    """Results of what was planned and came to no end, as the run could not go on."""
    from dragoman.pipeline.batch_file import Result

    told = {result.path for result in results}
    reason = f"{error}; the same command goes on where this one stopped"
    return [Result(path, "failed", reason=reason) for path, _ in planned if path not in told]


def summary(
    results: "list[Result]",
    seconds: float,
    interrupted: bool = False,
    planned: "Sequence[tuple[Path, float | None]]" = (),
) -> dict[str, Any]:
    """The JSON document about a run; times in seconds. ``planned`` is what a dry run would do."""
    heard = sum(result.duration_s for result in results if result.status == "done")
    return {
        **{
            status: sum(result.status == status for result in results)
            for status in ("done", "skipped", "failed")
        },
        "interrupted": interrupted,
        "seconds": round(seconds, 3),
        "audio_seconds": round(heard, 3),
        "files": [
            {
                "path": str(result.path),
                "status": result.status,
                "reason": result.reason,
                "outputs": [str(path) for path in result.outputs],
                "duration": round(result.duration_s, 3),
                "segments": result.segments,
                "kept_segments": result.kept,
                "warnings": list(result.warnings),
            }
            for result in results
        ]
        + [{"path": str(path), "status": "planned", "duration": s} for path, s in planned],
    }


def _show(event: "Event", results: "list[Result]", screen: "BatchView") -> None:
    from dragoman.pipeline.batch_file import Advanced, Result
    from dragoman.pipeline.translate import Planned, Ready

    match event:
        case Planned():
            screen.start(event.to_do)
        case Ready():
            screen.ready(event.workers)
        case Advanced():
            screen.advance(event)
        case Result():
            results.append(event)
            screen.show(event)


def _report(results: "list[Result]", interrupted: bool) -> int:
    """Says on stderr what went wrong; the exit code."""
    failed = [result for result in results if result.status == "failed"]
    if failed:
        count = f"{len(failed)} of {len(results)} inputs" if len(results) > 1 else "the input"
        say(f"dragoman: {count} could not be translated:")
    for result in failed:
        where = "" if str(result.path) in result.reason else f"{result.path}: "
        say(f"  {where}{result.reason}")
    if interrupted:
        say("dragoman: interrupted; the same command goes on where this one stopped")
        return INTERRUPTED
    if any(not result.bad_input for result in failed):
        return FAILED
    return NO_INPUT if failed else OK
