"""`dragoman`: the command line. It parses, sets up logging, and turns errors into lines and codes.

Everything heavy is imported by the command that needs it, so `--help` answers at once. Errors are a
line or two on stderr; a traceback only with `--debug`.
"""

import os
import sys
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.exceptions import TyperException

from dragoman.demos import models, options
from dragoman.demos.browser import demo
from dragoman.demos.check import check
from dragoman.demos.doctor import doctor
from dragoman.demos.finish import finish
from dragoman.demos.replay import replay
from dragoman.demos.serve import serve
from dragoman.demos.stdout import escape_what_cannot_be_encoded, say
from dragoman.demos.translate import translate
from dragoman.errors import FAILED, INTERRUPTED, OK, USAGE, DragomanError, exit_code
from dragoman.spec import ModelSpec

app = typer.Typer(
    help="Live speech translation: captions in the speaker's language and in yours.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit code is returned, for the console script to exit with."""
    args = with_hyphens(sys.argv[1:] if argv is None else argv)
    escape_what_cannot_be_encoded()
    try:
        return app(args, prog_name="dragoman", standalone_mode=False) or OK
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # who read stdout has gone: nothing is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if "--debug" in args:
            traceback.print_exc()
        message, code = explain(error)
        if message:
            say(f"dragoman: {message}")
        return code


def with_hyphens(args: list[str]) -> list[str]:
    """`--target_language=en` becomes `--target-language=en`: people know both spellings."""
    end = args.index("--") if "--" in args else len(args)
    return [_with_hyphens(arg) for arg in args[:end]] + args[end:]


def _with_hyphens(arg: str) -> str:
    if not arg.startswith("--"):
        return arg
    name, equals, value = arg.partition("=")
    return name.replace("_", "-") + equals + value


def explain(error: Exception) -> tuple[str, int]:
    """What to print about ``error``, and the exit code."""
    if isinstance(error, TyperException):
        hint = " (`--help` lists the options)" if error.exit_code == USAGE else ""
        message = error.format_message().removeprefix("Invalid value: ")
        message = message.replace("Value error, ", "").rstrip(".")
        return message + hint, error.exit_code
    code = exit_code(error)
    if isinstance(error, (DragomanError, OSError)):
        return str(error), code
    if isinstance(error, ImportError):
        return f"{error}: install what the README's set-up installs", code
    return f"{type(error).__name__}: {error} (run again with --debug to see where)", code


def _is_stream(source: str) -> bool:
    """Whether ``source`` is an address, or standard input, rather than the name of a file."""
    return source == "-" or "://" in source


def _check_source(
    file: Path | None,
    stream: str | None,
    microphone: str | None,
    duration: float | None,
    pace: str,
    raw: int | None,
) -> None:
    if (file or stream) is not None and microphone is not None:
        raise typer.BadParameter("a file or a stream and --microphone: give one of them")
    if file is not None and duration is not None:
        raise typer.BadParameter("--duration ends a live session: leave it out with a file")
    if file is None and stream is None and pace == "fast":
        raise typer.BadParameter("--pace fast is for a file: give one")
    if raw is not None and stream is None:
        raise typer.BadParameter("--raw is for a stream: give - for standard input, or an address")


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            print(f"dragoman {version('dragoman')}")
        except PackageNotFoundError:
            print("dragoman (not installed: run from its folder)")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def common(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(USAGE)


@app.command()
def captions(
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE]",
            help="Audio or video file, the address of a stream (http, HLS, rtsp), or - for "
            "standard input; a microphone without one.",
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="The same, as an option.", metavar="FILE")
    ] = None,
    microphone: Annotated[
        str | None,
        typer.Option(metavar="NAME|N", help="Microphone: a part of its name, or its number."),
    ] = None,
    list_devices: Annotated[
        bool, typer.Option("--list-devices", help="Show the microphones, and end.")
    ] = False,
    duration: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="SECONDS", help="End a live session by itself."),
    ] = None,
    raw: Annotated[
        int | None,
        typer.Option(
            min=8_000, max=192_000, metavar="RATE", help="The stream is int16 samples, mono."
        ),
    ] = None,
    reconnect: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="How long a stream may be away."),
    ] = 60.0,
    language: options.Language = "es",
    target_language: options.TargetLanguage = "en",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON event a line, and nothing else.")
    ] = False,
    big: options.Big = False,
    text_file: options.TextFile = None,
    record: options.Record = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir",
            "-o",
            help="Folder for NAME.es.srt, .vtt and NAME.json; a microphone's else go here.",
        ),
    ] = None,
    output_format: options.OutputFormat = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace outputs that no run of dragoman wrote.")
    ] = False,
    reference: Annotated[
        Path | None, typer.Option(help="True transcript: print the word error rate at the end.")
    ] = None,
    pace: Annotated[
        Literal["real-time", "fast"],
        typer.Option(help="Hear a file as it would be spoken, or as fast as possible."),
    ] = "real-time",
    model: options.Model = "nano",
    device: options.Device = "cpu",
    dtype: options.Dtype = "auto",
    size: options.Size = "",
    draft_size: options.DraftSize = "",
    pad_audio: options.PadAudio = False,
    prompt_style: options.PromptStyle = "short",
    min_confidence: options.MinConfidence = None,
    endpoint: options.Endpoint = None,
    latency: options.Latency = None,
    policy: options.Policy = None,
    log: options.LogFile = None,
    log_format: options.LogFormat = "events",
    audio_track: options.AudioTrack = None,
    channel: options.Channel = None,
    threads: options.Threads = None,
    address: options.Address = None,
    no_ray: options.NoRay = False,
    debug: options.Debug = False,
) -> int:
    """Live captions of a microphone, stream or file. Transcript and translation as people speak."""
    options.log_to_stderr(debug)
    if path is not None and file is not None:
        raise typer.BadParameter(f"{path} and --file {file}: captions are of one file at a time")
    stream = path if path is not None and _is_stream(path) else None
    if path is not None and stream is None:
        file = Path(path)
    _check_source(file, stream, microphone, duration, pace, raw)
    if file is None and audio_track is not None:
        raise typer.BadParameter("--audio-track is for a file: give one, or --channel")
    if file is not None and output_dir is None and output_format is not None:
        raise typer.BadParameter("-f says what is saved: give the folder for it with -o")
    options.check_place(no_ray, address)
    options.check_view(big, as_json, record, overwrite)
    if list_devices:
        from dragoman.demos.listening import list_devices as show_devices

        return show_devices(as_json)
    from dragoman.demos.captions import CaptionsOptions, run

    return run(
        CaptionsOptions(
            file=file,
            stream=stream,
            raw_hz=raw,
            reconnect_s=reconnect,
            microphone=microphone,
            duration_s=duration,
            language=language,
            target_language=target_language,
            as_json=as_json,
            big=big,
            text_file=text_file,
            record=record,
            output_dir=output_dir,
            formats=options.formats(output_format),
            reference=reference,
            pace=pace,
            pad_audio=pad_audio,
            prompt_style=prompt_style,
            min_confidence=min_confidence,
            endpoint_ms=endpoint,
            latency=latency,
            commit_policy=policy,
            log=log,
            log_format=log_format,
            overwrite=overwrite,
            track=audio_track,
            channel=channel,
            spec=ModelSpec(model, device, dtype, size, draft_size, threads, address),
            ray=not no_ray,
        )
    )


app.command()(translate)
app.command()(check)
app.command()(finish)
app.command()(replay)
app.command()(demo)
app.command()(serve)
app.command()(doctor)
app.add_typer(models.app, name="models")


if __name__ == "__main__":
    sys.exit(main())
