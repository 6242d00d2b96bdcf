"""`dragoman models`: what models and sizes there are, and what they cost; `slice` and `quantize`
write one.

The tables show what :mod:`models.catalogue` counted. Heavy imports wait until a command runs.
"""

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from dragoman.models.reading import Progress

OK = 0
WIDE = 120  # characters of a line that goes into a file or a pipe
LEGEND = """\
Sizes are of the language model alone: the towers for sound and pictures come on top.
params       in the model's files; official ones hold some that nobody reads
eff.         of these, without both tables of embeddings, as the MatFormer Lab counts
float32 ...  memory that a size takes as a model of its own (int8 and int4: output head in int8)
PLE          the per-layer table in bf16, which stays on the disk
prefill      operations for a token of the prompt: without layers whose results nobody reads / all
decode       operations for a token of the answer"""

Source = Annotated[str, typer.Option("--model", help="Model folder, hub id, or bundled model.")]
OutputDir = Annotated[Path, typer.Option("--output-dir", "-o", help="The new model folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else.")]

app = typer.Typer(
    help="Models and sizes, what they cost, and what is on disk.",
    invoke_without_command=True,
    no_args_is_help=False,
    add_completion=False,
)


@app.callback()
def models(
    context: typer.Context,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Also this model folder or hub id (nothing is downloaded); repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Models and sizes, what they cost, and what is on disk."""
    if context.invoked_subcommand is not None:
        return OK
    from dragoman.models.catalogue import catalogue

    document = catalogue(model or [])
    if as_json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        show(document)
    return OK


@app.command("slice")
def slice_(
    model: Source,
    size: Annotated[
        str,
        typer.Option(
            help="A name that `dragoman models` lists, FFN widths by layer such as "
            "8192,4=16384,20-24=skip, or a JSON file with ffn and skip."
        ),
    ],
    output_dir: OutputDir,
    as_json: AsJson = False,
) -> int:
    """Write a size of a model as a model folder. Transformers loads it as well."""
    from dragoman.models import sizes
    from dragoman.models.checkpoint import Checkpoint
    from dragoman.models.slicing import write_slice

    checkpoint = Checkpoint.open(model)
    chosen = sizes.parse(size, checkpoint.text_config)
    with _bar("writing") as progress:
        write_slice(checkpoint, chosen, output_dir, progress=progress)
    return _tell_of(output_dir, as_json)


@app.command("quantize")
def quantize_(
    model: Source,
    output_dir: OutputDir,
    dtype: Annotated[
        Literal["bf12", "int8", "int4"],
        typer.Option(
            help="Of the language model's matrices; bf12: bf16 in 12 bits, nothing is lost."
        ),
    ] = "int8",
    head: Annotated[
        Literal["bf16", "bf12", "int8", "int4"] | None,
        typer.Option(
            help="Of the token table, which is the output head too; bf16: as it is. Else bf12 with "
            "bf12, and int8.",
            show_default=False,
        ),
    ] = None,
    audio: Annotated[
        Literal["bf16", "bf12", "int8"],
        typer.Option(help="Of the audio tower's matrices; bf16: as they are."),
    ] = "bf12",
    as_json: AsJson = False,
) -> int:
    """Write a model with quantized or packed weights as a model folder. It loads at once."""
    from dragoman.models.checkpoint import Checkpoint
    from dragoman.models.quantized import HEADS
    from dragoman.models.quantizing import Scheme, write_quantized

    forms = (None if form == "bf16" else form for form in (head or HEADS[dtype], audio))
    scheme = Scheme(dtype, *forms)
    with _bar("quantizing") as progress:
        write_quantized(Checkpoint.open(model), scheme, output_dir, progress=progress)
    return _tell_of(output_dir, as_json)


def _tell_of(folder: Path, as_json: bool) -> int:
    """Prints what was written."""
    from dragoman.models.catalogue import describe
    from dragoman.models.checkpoint import Checkpoint

    made = describe(Checkpoint.open(str(folder)))
    if as_json:
        print(json.dumps(made, indent=2, ensure_ascii=False))
    else:
        count, size = made["parameters"], made["bytes"]
        print(
            f"wrote {folder}: {_short(count, ' million', ' billion')} parameters, "
            f"{_short(size, ' MB', ' GB')}; use it with --model {shlex.quote(str(folder))}"
        )
    return OK


def _short(number: int, millions: str, billions: str) -> str:
    """`11.8 million`, `5.44 billion`."""
    if number < 1e9:
        return f"{number / 1e6:.1f}{millions}"
    return f"{number / 1e9:.2f}{billions}"


@contextmanager
def _bar(what: str) -> "Iterator[Progress]":
    """A bar on stderr, where that is a terminal, and the function that moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(stderr=True)
    bar = Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    )
    with bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def show(document: dict[str, Any]) -> None:
    """Tables for people."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)
    for model in document["models"]:
        _print(console, model["name"], _size_table(model["sizes"]))
        where = f"on disk: {model['folder']}" if model["folder"] else "on the hub, not downloaded"
        _print(console, where, _disk_table(model))
    _print(console, "Gemma 3n, published sizes", _size_table(document["published"]))
    console.print("\n" + LEGEND, style="dim")


def _print(console: "Console", title: str, table: "Table") -> None:
    console.print(f"\n{title}", style="bold", markup=False, soft_wrap=True)
    console.print(table)


def _table(left: int, *headers: str) -> "Table":
    """A table whose first `left` columns are words and whose others are numbers."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i < left else "right", overflow="fold")
    return table


def _size_table(sizes: list[dict[str, Any]]) -> "Table":
    most = max(size["parameters"] for size in sizes)
    scale, (count, memory, work) = (
        (1e9, ("10⁹", "GB", "GFLOP")) if most >= 1e9 else (1e6, ("10⁶", "MB", "MFLOP"))
    )
    table = _table(
        1,
        *("size", "layers", f"params\n{count}", f"eff.\n{count}"),
        *(f"{dtype}\n{memory}" for dtype in (*sizes[0]["memory_bytes"], "PLE")),
        *(f"prefill\n{work}", f"decode\n{work}"),
    )
    for size in sizes:
        flop = {key: f"{value * 1e9 / scale:.2f}" for key, value in size["gflop_per_token"].items()}
        table.add_row(
            size["name"],
            str(size["layers"]),
            f"{size['parameters'] / scale:.2f}",
            f"{size['effective_parameters'] / scale:.2f}",
            *(f"{value / scale:.1f}" for value in size["memory_bytes"].values()),
            f"{size['per_layer_table_bytes_bf16'] / scale:.1f}",
            f"{flop['prefill']} / {flop['prefill_all_layers']}",
            flop["decode"],
        )
    return table


def _disk_table(model: dict[str, Any]) -> "Table":
    table = _table(2, "group", "types", "tensors", "parameters", "bytes")
    groups = model["on_disk"]
    whole = {**model, "name": "total", "tensors": sum(g["tensors"] for g in groups), "dtypes": []}
    for group in (*groups, whole):
        numbers = (group["tensors"], group["parameters"], group["bytes"])
        table.add_row(group["name"], ", ".join(group["dtypes"]), *(f"{n:,}" for n in numbers))
    return table
