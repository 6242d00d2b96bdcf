"""What the server says no to, and how: one error for HTTP, for web sockets and for metrics.

Each limit has a code of its own. A client sees it as OpenAI's error object, with the HTTP status,
or as an `error` message and a close code. Source: the shapes of OpenAI's API; close codes as IANA
has registered them (RFC 6455, and 3000 to 3008).
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dragoman.errors import DragomanError, InputError, PipelineError, UsageError

log = logging.getLogger(__name__)
RETRY_S = 5  # what `Retry-After` says where the server is full
# HTTP statuses and the close codes that say the same.
CLOSE_CODES = {400: 1008, 401: 3000, 403: 3003, 404: 1008, 408: 3008, 409: 1008, 413: 1009}
CLOSE_CODES |= {429: 1013, 503: 1013, 500: 1011}
# Codes of refusals that know no better one, such as those of the framework.
CODES = {
    401: "invalid_api_key",
    403: "origin_not_allowed",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    421: "unknown_host",
    429: "server_full",
    503: "server_full",
}


@dataclass(eq=False)
class Refusal(DragomanError):
    """Something that is not done: ``status`` as HTTP has it, ``code`` for programs, ``message`` for
    people, ``param`` the field or parameter that is meant.
    """

    status: int
    code: str
    message: str
    param: str | None = None

    def __str__(self) -> str:
        return self.message

    @property
    def close_code(self) -> int:
        """How a web socket is closed for it."""
        return CLOSE_CODES.get(self.status, 1008)

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(RETRY_S)} if self.status in (429, 503) else {}

    def error(self) -> dict[str, Any]:
        """OpenAI's error object."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"message": self.message, "type": kind, "param": self.param, "code": self.code}


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> Refusal:
    """A request that cannot be done as it is."""
    return Refusal(400, code, message, param)


def refusal_of(error: Exception, names: Mapping[str, str] | None = None) -> Refusal:
    """What a client is told about ``error``; paths in it are replaced by ``names``.

    A failure inside the server is told without its particulars, which go to the log.
    """
    if isinstance(error, Refusal):
        return error
    message = str(error)
    for path, name in (names or {}).items():
        message = message.replace(path, name)
    if isinstance(error, InputError):
        return Refusal(400, "invalid_file", message, "file")
    if isinstance(error, UsageError):
        return invalid(message)
    if isinstance(error, PipelineError):
        return Refusal(500, "session_failed", "the session failed in the server: try again")
    log.error("a request failed", exc_info=error)
    return Refusal(500, "internal_error", "something failed in the server: its log says what")
