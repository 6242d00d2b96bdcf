"""Serves an app in a thread, with https or without.

Below :mod:`demos.browser` and :mod:`demos.serve`. Unusual: Gradio could do it for the page, but
says of a bad certificate that no port is free, and puts its answers to other origins in front of
everybody else's checks.
"""

import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from dragoman.errors import UsageError

KEY = "DRAGOMAN_API_KEY"  # the variable with the key that clients must send
log = logging.getLogger("uvicorn.error")
START_S = 30.0
END_S = 3  # for answers that are under way
CONNECTIONS = 1_000  # beside those that have places; more are answered 503 at once


@dataclass(frozen=True)
class Certificate:
    """PEM files for https."""

    certificate: Path
    key: Path

    def check(self) -> None:
        """Raises UsageError, which says what is wrong with them."""
        for file in (self.certificate, self.key):
            if not file.is_file():
                raise UsageError(f"{file} does not exist: check the name")
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
        except _Locked:
            raise UsageError(
                f"{self.key} wants a password: write a key without one (openssl pkey -in ... -out)"
            ) from None
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{self.certificate} and {self.key} are no certificate and its key in PEM form "
                f"({getattr(error, 'reason', None) or error}): make them with openssl or mkcert"
            ) from error


class _Locked(Exception):
    """A key that wants a password."""


def _no_password() -> str:
    raise _Locked


class _Refusals(logging.Filter):
    """Leaves out what uvicorn says of a web socket that was refused by an HTTP answer, which it
    takes for one without any.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return "without completing handshake" not in record.getMessage()


_QUIET = _Refusals()


@contextmanager
def serving(
    app: ASGIApp,
    host: str,
    port: int,
    certificate: Certificate | None = None,
    message_bytes: int | None = None,
    places: int = 0,
) -> Iterator[str]:
    """Serves ``app`` while the context lasts, and gives its address; raises OSError.

    ``message_bytes`` is the most that a message of a web socket may have; None: there are none.
    ``places`` are connections that the app may hold for long.
    """
    listener = bind(host, port)
    with listener:
        log.addFilter(_QUIET)
        server = uvicorn.Server(_config(app, certificate, message_bytes, places))
        thread = threading.Thread(target=server.run, args=([listener],), name="server", daemon=True)
        thread.start()
        try:
            _wait(server, thread)
            yield address_of(host, listener.getsockname()[1], certificate is not None)
        finally:
            server.should_exit = True
            thread.join(2 * END_S)


def bind(host: str, port: int) -> socket.socket:
    """A socket at ``port``, 0 for a free one; raises OSError where it cannot be had."""
    server = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((host, port))
    except OSError as error:
        server.close()
        raise OSError(
            f"cannot serve at {host}:{port} ({error.strerror}): "
            "choose another with --port (0 takes a free one) or --host"
        ) from error
    return server


def _config(
    app: ASGIApp, certificate: Certificate | None, message_bytes: int | None, places: int
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_level="warning",
        http="h11",  # whatever else is installed: what is tested is what runs
        loop="asyncio",
        limit_concurrency=CONNECTIONS + places,
        ws="none" if message_bytes is None else "websockets-sansio",
        ws_max_size=message_bytes or 0,
        server_header=False,
        timeout_graceful_shutdown=END_S,
        ssl_certfile=None if certificate is None else str(certificate.certificate),
        ssl_keyfile=None if certificate is None else str(certificate.key),
    )


def _wait(server: uvicorn.Server, thread: threading.Thread) -> None:
    end = time.monotonic() + START_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > end:
            raise OSError("the server did not start: --debug shows its log")
        time.sleep(0.01)


def address_of(host: str, port: int, https: bool) -> str:
    """Where what is served at ``host`` is reached from this machine."""
    name = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, host)
    return f"{'https' if https else 'http'}://{f'[{name}]' if ':' in name else name}:{port}/"
