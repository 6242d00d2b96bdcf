"""`dragoman demo`: the page in a browser, live captions and subtitles for videos.

Here the command starts, serves until Ctrl-C and cleans up; the page is :mod:`demos.browser_page`.
Everything that visitors send lies in one temporary folder, which goes with the command.
Heavy imports wait until the command runs.
"""

import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dragoman.demos import options
from dragoman.demos.loading import bar
from dragoman.pipeline.start import check, locate, session_options, start
from dragoman.server.serving import Certificate, bind, serving
from dragoman.spec import ModelSpec

if TYPE_CHECKING:
    from dragoman.demos.browser_choices import Choices
    from dragoman.demos.browser_visitors import Visitors
    from dragoman.pipeline.chain import Chain
    from dragoman.stages.messages import SessionOptions

CLIP = Path(__file__).resolve().parents[1] / "samples" / "talk.mp4"


def demo(
    host: Annotated[
        str, typer.Option(help="Address to serve at; 0.0.0.0 is all of them.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 7860,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    language: options.Language = "es",
    target_language: options.TargetLanguage = "en",
    model: options.Model = "nano",
    device: options.Device = "cpu",
    dtype: options.Dtype = "auto",
    size: options.Size = "",
    draft_size: options.DraftSize = "",
    pad_audio: options.PadAudio = False,
    prompt_style: options.PromptStyle = "short",
    latency: options.Latency = None,
    policy: options.Policy = None,
    threads: options.Threads = None,
    address: options.Address = None,
    no_ray: options.NoRay = False,
    ssl_certfile: Annotated[
        Path | None,
        typer.Option(help="Certificate for https, which browsers want for another's microphone."),
    ] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Another name that the page may be opened by, as behind a proxy."),
    ] = None,
    debug: options.Debug = False,
) -> int:
    """Captions and subtitles in a browser. Live ones of its microphone, and of video files."""
    options.log_to_stderr(debug, logging.INFO)
    options.check_place(no_ray, address)
    spec = ModelSpec(model, device, dtype, size, draft_size, threads, address)
    check(spec, language, target_language)
    certificate = certificate_of(ssl_certfile, ssl_keyfile)
    bind(host, port).close()  # before a model is loaded
    session = session_options(
        spec,
        language=language,
        target_language=target_language,
        pad_audio=pad_audio,
        prompt_style=prompt_style,
        latency=latency,
        commit_policy=policy,
    )
    if sys.stderr.isatty():
        print(f"loading {model} ...", file=sys.stderr)
    end_politely()
    try:
        with (
            start(spec, ray=not no_ray, progress=bar) as chain,
            serve(
                chain, session, host, port, certificate, allow_host or (), choices(spec)
            ) as served,
        ):
            end_politely()  # again: Ray has put a handler of its own there
            print(f"Dragoman is at {served.url}   (Ctrl-C to end)", flush=True)
            if browser:
                webbrowser.open(served.url)
            threading.Event().wait()
    except KeyboardInterrupt:  # how a server ends
        pass
    return 0


@dataclass(frozen=True)
class Served:
    """A page that is being served."""

    url: str
    visitors: "Visitors"


@contextmanager
def serve(
    chain: "Chain",
    options: "SessionOptions",
    host: str = "127.0.0.1",
    port: int = 0,
    certificate: Certificate | None = None,
    names: Sequence[str] = (),
    choices: "Choices | None" = None,
) -> Iterator[Served]:
    """Serves the page on ``chain`` until the context ends, for requests to this machine or to hosts
    called ``names``, with ``choices`` for its visitors (None: those of the chain's model). Raises
    OSError for a busy port.
    """
    folder = Path(tempfile.mkdtemp(prefix="dragoman-")).resolve()  # nobody else may look into it
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "gradio")  # read when the page is built
    from dragoman.demos.browser_page import VIEWERS, application
    from dragoman.demos.browser_visitors import Visitors

    visitors = Visitors(chain, options, folder / "visitors", choices)
    app = application(visitors, CLIP if CLIP.is_file() else None, [host, *names])
    try:
        with serving(app, host, port, certificate, places=VIEWERS) as url:
            yield Served(url, visitors)
    finally:
        visitors.close()
        shutil.rmtree(folder, ignore_errors=True)


def choices(spec: ModelSpec) -> "Choices":
    """What visitors may choose of the model of ``spec``, once it is here."""
    from dragoman.demos.browser_choices import Choices
    from dragoman.models import hub

    return Choices.of(spec.model, hub.here(locate(spec).model))


def end_politely() -> None:
    """Makes a polite kill, or the end of the terminal unless `nohup` keeps it away, the same as
    Ctrl-C, so that no process stays behind.
    """

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        signal.signal(hangup, interrupt)


def certificate_of(file: Path | None, key: Path | None) -> Certificate | None:
    """The files for https, if it is asked for; raises UsageError for what cannot be used."""
    if file is None and key is None:
        return None
    if file is None or key is None:
        raise typer.BadParameter("https needs both --ssl-certfile and --ssl-keyfile")
    certificate = Certificate(file, key)
    certificate.check()
    return certificate
