"""`dragoman models`: what models and sizes there are, and what they cost; `slice` and `quantize`
write one.

The tables show what :mod:`models.catalogue` counted. Heavy imports wait until a command runs.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from models.reading import Progress

OK = 0
WIDE = 120  # characters of a line that goes into a file or a pipe
LEGEND = (
    "Of the language model alone. params: as official files hold them; eff.: without both tables "
    "of embeddings, as the MatFormer Lab counts. Memory: what a size loads as a model of its own, "
    "by type (int8 and int4 with the output head in int8); the per-layer table (PLE, bf16) stays "
    "on the disk. prefill, decode: operations for a token of the prompt, without the layers whose "
    "results nobody reads / in all layers, and of the answer."
)

app = typer.Typer(
    help="Models and sizes: parameters, memory, arithmetic, and what is on disk.",
    invoke_without_command=True,
    no_args_is_help=False,
    add_completion=False,
)


@app.callback()
def models(
    context: typer.Context,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Also this model folder or hub id (downloaded if need be); repeatable."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, and nothing else.")
    ] = False,
) -> int:
    """Models and sizes: parameters, memory, arithmetic, and what is on disk."""
    if context.invoked_subcommand is not None:
        return OK
    from models.catalogue import catalogue

    document = catalogue(model or [])
    if as_json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        show(document)
    return OK


@app.command("slice")
def slice_(
    model: Annotated[str, typer.Option(help="Model folder, hub id, or bundled model.")],
    size: Annotated[
        str,
        typer.Option(
            help="A name that `dragoman models` lists, FFN widths by layer such as "
            "8192,4=16384,20-24=skip, or a JSON file with ffn and skip."
        ),
    ],
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="The new model folder.")],
) -> int:
    """Write a size of a model as a model folder of its own, which transformers loads as well."""
    from models import sizes
    from models.checkpoint import Checkpoint
    from models.slicing import write_slice

    checkpoint = Checkpoint.open(model)
    chosen = sizes.parse(size, checkpoint.text_config)
    with _bar("writing") as progress:
        write_slice(checkpoint, chosen, output_dir, progress=progress)
    print(output_dir)
    return OK


@app.command("quantize")
def quantize_(
    model: Annotated[str, typer.Option(help="Model folder, hub id, or bundled model.")],
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="The new model folder.")],
    dtype: Annotated[
        Literal["int8", "int4"], typer.Option(help="Of the language model's matrices.")
    ] = "int8",
    head: Annotated[
        Literal["bf16", "int8", "int4"],
        typer.Option(help="Of the token table, which is the output head too; bf16: as it is."),
    ] = "int8",
) -> int:
    """Write a model with quantized weights as a model folder of its own, which loads at once."""
    from models.checkpoint import Checkpoint
    from models.quantizing import Scheme, write_quantized

    scheme = Scheme(dtype, None if head == "bf16" else head)
    with _bar("quantizing") as progress:
        write_quantized(Checkpoint.open(model), scheme, output_dir, progress=progress)
    print(output_dir)
    return OK


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
        _print(console, f"on disk: {model['folder']}", _disk_table(model["on_disk"]))
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


def _disk_table(groups: list[dict[str, Any]]) -> "Table":
    table = _table(2, "group", "types", "tensors", "parameters", "bytes")
    for group in groups:
        numbers = (group["tensors"], group["parameters"], group["bytes"])
        table.add_row(group["name"], ", ".join(group["dtypes"]), *(f"{n:,}" for n in numbers))
    return table
