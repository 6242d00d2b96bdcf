"""Options that several commands have, and what of them is checked before anything is loaded.

Nothing heavy is imported here: `--help` answers at once.
"""

import logging
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from dragoman.demos.stdout import PrintableFormatter
from dragoman.models import languages
from dragoman.stages.policies import presets


def _code(said: str) -> str:
    """`es` for `ES`, `spa`, `es-MX` or `Spanish`; raises LanguageError."""
    return languages.find(said).code


def _style(said: str) -> str:
    """A style or an instruction, as sessions take it; raises UsageError."""
    from dragoman.models.prompt import style_of

    return style_of(said)


def _policy(said: str | None) -> str | None:
    """A commit policy, as sessions take it; raises UsageError."""
    if said is not None:
        from dragoman.stages.policies.commit import policy

        policy(said, lambda token: True)
    return said


Language = Annotated[
    str, typer.Option(callback=_code, help="Language that is spoken: a code or an English name.")
]
TargetLanguage = Annotated[str, typer.Option(callback=_code, help="Language to translate into.")]
Model = Annotated[
    str, typer.Option(help="Bundled model, model folder, or hub id (google/gemma-3n-E2B-it).")
]
Device = Annotated[Literal["cpu", "cuda"], typer.Option(help="What the model runs on.")]
Dtype = Annotated[
    Literal["auto", "float32", "bf16", "bf12", "int8", "int4", "int8+audio", "int4+audio"],
    typer.Option(
        help="Weights in memory; auto: float32 if the model is small, else bf16. bf12: bf16 in 12 "
        "bits, same results, a quarter less memory. int8 and int4 quantize the language model "
        "while it is loaded; with +audio also the audio tower, to int8."
    ),
]
PadAudio = Annotated[
    bool,
    typer.Option(
        "--pad-audio/--no-pad-audio",
        help="Show the model every segment filled up to 30 s, as the reference does; slower. "
        "Not for nano, which has learnt without.",
    ),
]
PromptStyle = Annotated[
    str,
    typer.Option(
        callback=_style,
        metavar="short|long|FILE",
        help="Wording of the instruction: long says what the answer looks like; a file holds your "
        "own, with {language} and {target_language}. Nano has learnt the short one.",
    ),
]
Size = Annotated[
    str,
    typer.Option(
        help="MatFormer size: a name (`dragoman models`), FFN widths by layer, or auto: smaller "
        "while captions lag. Else the whole model.",
        show_default=False,
    ),
]
DraftSize = Annotated[
    str,
    typer.Option(help="Another size for captions of unfinished speech.", show_default=False),
]
Endpoint = Annotated[
    int | None,
    typer.Option(
        min=300,
        max=5_000,
        metavar="MS",
        help="Silence that ends a segment; one of more than 4 s needs less.",
        show_default=False,
    ),
]
Latency = Annotated[
    presets.Latency | None,
    typer.Option(
        help="How soon words are shown and committed, against how sure they are: a preset of "
        "--policy, --endpoint and how often captions are made anew; else balanced.",
        show_default=False,
    ),
]
Policy = Annotated[
    str | None,
    typer.Option(
        callback=_policy,
        metavar="NAME[:N]",
        help="What commits words: wait-k:WORDS, hold-n:WORDS, local-agreement:UPDATES, or by where "
        "the model looks align-att:TOKENS.",
        show_default=False,
    ),
]
LogFile = Annotated[
    Path | None,
    typer.Option(
        "--log",
        metavar="FILE",
        help="Write the session down while it runs, for `dragoman replay` or a scorer.",
        show_default=False,
    ),
]
LogFormat = Annotated[
    Literal["events", "simulstream", "simuleval"],
    typer.Option(help="What --log writes: events are for replay, the others are scored."),
]
OutputFormat = Annotated[
    str | None,
    typer.Option(
        "--output-format",
        "-f",
        metavar="FORMATS",
        help="Any of srt,vtt,ass,ttml,txt,tsv,json, with commas between, or all; else "
        "srt,vtt,json.",
        show_default=False,
    ),
]
USUAL_TEXTS = "transcript,translation,transcript-above"
Texts = Annotated[
    str, typer.Option(help="Any of transcript-above, translation-above, transcript, translation.")
]
MaxCps = Annotated[
    float, typer.Option(help="Characters a second that viewers can read, at most 21.")
]
AudioTrack = Annotated[
    int | None,
    typer.Option(
        "--audio-track",
        min=1,
        metavar="N",
        help="Hear this sound track, counted from 1; else the one in --language, or the default.",
        show_default=False,
    ),
]
Channel = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Hear this channel alone, counted from 1; else all that have sound are mixed.",
        show_default=False,
    ),
]
MinConfidence = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Mean confidence that a segment needs to be in the subtitles; else what the model's "
        "folder names. 0: all of them.",
        show_default=False,
    ),
]
Big = Annotated[
    bool, typer.Option("--big", help="Show the translation in large letters, for a room.")
]
TextFile = Annotated[
    Path | None,
    typer.Option(
        "--text-file",
        metavar="FILE",
        help="Keep the last two lines of the translation there, for streaming software.",
    ),
]
Record = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Keep the sound there: a .wav or .flac that subtitles fit."),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Threads of the decoder; else all cores, with nano but one."),
]
Address = Annotated[str | None, typer.Option(help="Ray cluster to run on: auto, or HOST:PORT.")]
NoRay = Annotated[bool, typer.Option("--no-ray", help="Run in this process.")]
Debug = Annotated[bool, typer.Option("--debug", help="Log more, show tracebacks.")]


def parts(text: str) -> list[str]:
    """The parts of an option that takes several, with commas between."""
    return [part.strip().lower() for part in text.split(",") if part.strip()]


def formats(asked: str | None) -> tuple[str, ...]:
    """The formats of `OutputFormat`; raises UsageError."""
    from dragoman.pipeline.formats import USUAL
    from dragoman.pipeline.outputs import chosen_formats

    return USUAL if asked is None else chosen_formats(parts(asked))


def log_to_stderr(debug: bool, most: int = logging.DEBUG) -> None:
    """Sets up logging: warnings, or with ``debug`` all from the level ``most`` up."""
    form = "%(levelname)s %(name)s: %(message)s" if debug else "dragoman: %(message)s"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter(form))
    logging.basicConfig(level=most if debug else logging.WARNING, handlers=[handler])


def check_place(no_ray: bool, address: str | None) -> None:
    """Raises BadParameter for two places to run at."""
    if no_ray and address is not None:
        raise typer.BadParameter("--no-ray runs here, --address elsewhere: give one of them")


def check_view(big: bool, as_json: bool, record: Path | None, overwrite: bool) -> None:
    """Raises BadParameter for a view or a recording that cannot be."""
    if big and as_json:
        raise typer.BadParameter("--big is for a screen, --json for programs: give one of them")
    if record is not None and record.suffix not in (".wav", ".flac"):
        raise typer.BadParameter(f"--record {record}: name a .wav or a .flac")
    if record is not None and record.exists() and not overwrite:
        raise typer.BadParameter(f"--record {record} is there already: --overwrite replaces it")
