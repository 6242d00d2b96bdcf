"""Asks a port whether a Ray cluster answers there and takes our token, before Ray joins it.

Ray itself would try for minutes where something else listens, and for 20 s where its token is
missing or wrong, and say of both only that it failed. Unusual: the question is one gRPC call,
written by hand (RFC 9113, RFC 7541); Ray's own client ends the process where it finds no token.
"""

import contextlib
import os
import socket

from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled
from ray.exceptions import AuthenticationError

KNOCK_S = 5.0
METHOD = "/ray.rpc.NodeInfoGcsService/GetClusterId"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4  # types of frames
END_STREAM, END_HEADERS = 1, 4
UNAUTHENTICATED = b"grpc-status\x0216"  # gRPC's code 16, two characters long


def knock(address: str) -> None:
    """Raises OSError when no gRPC server is at `host:port`, and Ray's AuthenticationError when it
    is one that does not take our token, or when there should be a token and is none.
    """
    host, colon, port = address.rpartition(":")
    if not colon or "/" in host or not port.isdigit():
        return
    with socket.create_connection((host.strip("[]"), int(port)), KNOCK_S) as server:
        if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
            _ask(server, get_auth_headers_if_auth_enabled({}))


def _ask(server: socket.socket, token: dict[str, str]) -> None:
    """As `knock`; ``token`` is the header that shows it, empty where Ray would show none."""
    call = {
        ":method": "POST",
        ":scheme": "http",
        ":path": METHOD,
        ":authority": "ray",
        "content-type": "application/grpc",
        "te": "trailers",
        **token,
    }
    asked = [
        PREFACE,
        _frame(SETTINGS, 0, 0, b""),
        _frame(HEADERS, END_HEADERS, 1, b"".join(map(_header, call, call.values()))),
        _frame(DATA, END_STREAM, 1, bytes(5)),  # an empty message, not compressed
    ]
    first, headers = _answer(server, b"".join(asked))
    if first != SETTINGS:  # which opens what a server says
        raise ConnectionError("what listens there does not answer as Ray does")
    if UNAUTHENTICATED in headers:  # a refusal has its status in front, as nothing else follows
        raise AuthenticationError("the cluster refused our token" if token else "no token was sent")


def _answer(server: socket.socket, asked: bytes) -> tuple[int | None, bytes]:
    """The type of the first frame that comes back, and the first headers, if they come."""
    first = None
    with contextlib.suppress(OSError), server.makefile("rb") as answer:
        server.sendall(asked)
        while len(head := answer.read(9)) == 9:
            kind = head[3]
            first = kind if first is None else first
            if first != SETTINGS:
                break
            payload = answer.read(int.from_bytes(head[:3], "big"))
            if kind == HEADERS:
                return first, payload
    return first, b""


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def _header(name: str, value: str) -> bytes:
    """A field as it is: neither indexed nor compressed (RFC 7541, section 6.2.2)."""
    return b"\0" + _string(name.encode()) + _string(value.encode())


def _string(text: bytes) -> bytes:
    """Length and text; a length from 127 on takes more bytes (RFC 7541, section 5.1)."""
    if len(text) < 127:
        return bytes([len(text)]) + text
    rest, length = len(text) - 127, [127]
    while rest >= 128:
        length.append(rest % 128 + 128)
        rest //= 128
    return bytes([*length, rest]) + text
