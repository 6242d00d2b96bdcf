"""`dragoman serve`: captions for other programs and their viewers, until Ctrl-C.

Here the command reads its options, loads the model and serves; the API is :mod:`server.app`. It
serves this machine alone unless it is told otherwise, and then it wants a key.
"""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

import typer

from dragoman.captioner import Captioner
from dragoman.demos import options
from dragoman.demos.browser import certificate_of, end_politely
from dragoman.errors import UsageError
from dragoman.pipeline.start import check, session_options
from dragoman.server.limits import Limits
from dragoman.server.serving import KEY, Certificate, bind, serving
from dragoman.spec import ModelSpec

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
    latency: options.Latency = None,
    policy: options.Policy = None,
    threads: options.Threads = None,
    address: options.Address = None,
    no_ray: options.NoRay = False,
    replicas: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes with a model each, on Ray Serve (at --address, else on this machine); "
            "the limits are those of one. Wants --state-dir.",
            show_default=False,
        ),
    ] = None,
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
            help="Folder for what another server needs to go on with the live sessions of this "
            "one: their text and two minutes of sound."
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
    _check_replicas(replicas, no_ray, state_dir)
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
        spec,
        latency=latency,
        language=language,
        target_language=target_language,
        prompt_style=prompt_style,
        commit_policy=policy,
    )
    from dragoman.server.access import Rules

    rules = Rules(key, [host, *(allow_host or ())], allow_origin or ())
    aliases = tuple(served_model_name or ())
    if sys.stderr.isatty():
        print(f"loading {model} ...", file=sys.stderr)
    end_politely()
    try:
        if replicas is not None and state_dir is not None:
            from dragoman.server.replicas import Service, serving_replicas

            service = Service(spec, session, rules, limits, aliases, state_dir.resolve())
            served = serving_replicas(service, replicas, host, port, certificate)
        else:
            served = _alone(
                spec, not no_ray, host, port, certificate,
                options=session, rules=rules, limits=limits, aliases=aliases, state=state_dir,
            )  # fmt: skip
        with served as url:
            end_politely()  # again: Ray has put a handler of its own there
            print(f"Dragoman serves {url}v1   (Ctrl-C to end)", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:  # how a server ends
        pass
    return 0


@contextmanager
def _alone(
    spec: ModelSpec,
    ray: bool,
    host: str,
    port: int,
    certificate: Certificate | None,
    limits: Limits,
    **of_app: Any,
) -> Iterator[str]:
    """Serves from this process while the context lasts, and gives its address."""
    from dragoman.server.app import application

    with Captioner(spec, ray=ray) as captioner:
        app = application(captioner, limits=limits, **of_app)
        with serving(app, host, port, certificate, limits.message_bytes, limits.places) as url:
            yield url


def _check_replicas(replicas: int | None, no_ray: bool, state: Path | None) -> None:
    """Raises BadParameter, UsageError for replicas that could not work."""
    if replicas is None:
        return
    if no_ray:
        raise typer.BadParameter("--no-ray runs here, --replicas on Ray Serve: give one of them")
    if state is None:
        raise UsageError(
            "replicas find each other's sessions in a folder that they share: name it with "
            "--state-dir"
        )


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
