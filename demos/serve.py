"""`dragoman serve`: captions for other programs and their viewers, until Ctrl-C.

Here the command reads its options, loads the model and serves; the API is :mod:`server.app`. It
serves this machine alone unless it is told otherwise, and then it wants a key.
"""

import logging
import os
import sys
import threading
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from dragoman.captioner import Captioner
from dragoman.demos import options
from dragoman.demos.browser import certificate_of, end_politely
from dragoman.errors import UsageError
from dragoman.pipeline.start import check, session_options
from dragoman.server.limits import Limits
from dragoman.server.serving import bind, serving
from dragoman.spec import ModelSpec

KEY = "DRAGOMAN_API_KEY"
DEFAULTS = Limits()
Places = Annotated[int, typer.Option(min=1, help="Most at once; more are refused.")]


def serve(
    host: Annotated[
        str, typer.Option(help="Address to serve at; 0.0.0.0 is all of them, and wants a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    language: options.Language = "es",
    target_language: options.TargetLanguage = "en",
    model: options.Model = "nano",
    device: options.Device = "cpu",
    dtype: options.Dtype = "auto",
    size: options.Size = "",
    draft_size: options.DraftSize = "",
    prompt_style: options.PromptStyle = "short",
    threads: options.Threads = None,
    address: options.Address = None,
    no_ray: options.NoRay = False,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the key that clients must send; else that in {KEY}."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Origin whose web pages may ask, such as https://app.example."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Another name that the server may be asked by, as behind a proxy."),
    ] = None,
    served_model_name: Annotated[
        list[str] | None, typer.Option(help="Another name for the model, such as whisper-1.")
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder for what a new server needs to go on with the live sessions of this one: "
            "their text and two minutes of sound."
        ),
    ] = None,
    max_sessions: Places = DEFAULTS.sessions,
    max_files: Places = DEFAULTS.files,
    max_viewers: Places = DEFAULTS.viewers,
    max_upload_mb: Annotated[int, typer.Option(min=1, help="Largest file.")] = DEFAULTS.upload_bytes
    // 2**20,
    max_session_hours: Annotated[
        float, typer.Option(min=0.001, help="Longest live session.")
    ] = DEFAULTS.session_s / 3_600,
    idle_seconds: Annotated[
        float, typer.Option(min=1, help="A live session ends after so long without sound.")
    ] = DEFAULTS.idle_s,
    ssl_certfile: Annotated[Path | None, typer.Option(help="Certificate for https.")] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    debug: options.Debug = False,
) -> int:
    """An API for other programs. OpenAI's routes for files and live sound, pages for viewers."""
    options.log_to_stderr(debug, logging.INFO)
    options.check_place(no_ray, address)
    spec = ModelSpec(model, device, dtype, size, draft_size, threads, address)
    check(spec, language, target_language)
    certificate = certificate_of(ssl_certfile, ssl_keyfile)
    key = read_key(api_key_file, host)
    bind(host, port).close()  # before a model is loaded
    limits = Limits(
        sessions=max_sessions,
        files=max_files,
        viewers=max_viewers,
        upload_bytes=max_upload_mb * 2**20,
        session_s=max_session_hours * 3_600,
        idle_s=idle_seconds,
    )
    session = session_options(
        spec, language=language, target_language=target_language, prompt_style=prompt_style
    )
    from dragoman.server.access import Rules
    from dragoman.server.app import application

    rules = Rules(key, [host, *(allow_host or ())], allow_origin or ())
    if sys.stderr.isatty():
        print(f"loading {model} ...", file=sys.stderr)
    end_politely()
    try:
        with Captioner(spec, ray=not no_ray) as captioner:
            end_politely()  # again: Ray has put a handler of its own there
            app = application(captioner, session, rules, limits, served_model_name or (), state_dir)
            with serving(app, host, port, certificate, limits.message_bytes, limits.places) as url:
                print(f"Dragoman serves {url}v1   (Ctrl-C to end)", flush=True)
                threading.Event().wait()
    except KeyboardInterrupt:  # how a server ends
        pass
    return 0


def read_key(file: Path | None, host: str) -> str | None:
    """The key that clients must send, None where they need none; raises UsageError."""
    key = os.environ.get(KEY, "").strip()
    if file is not None:
        try:
            key = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"the key in {file} cannot be read ({error}): check the name"
            ) from error
        if not key:
            raise UsageError(f"{file} is empty: write a key into it, one line")
    if not (key.isascii() and key.isprintable()):  # clients send it in a header
        raise UsageError(
            f"the key in {file or KEY} has other than plain letters, digits and signs in one line: "
            "choose one, such as by openssl rand -hex 32"
        )
    if not key and not _is_loopback(host):
        raise UsageError(
            f"{host} can be reached by others: give a key with --api-key-file or in {KEY}, or "
            "serve this machine alone"
        )
    return key or None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
