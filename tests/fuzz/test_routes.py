"""Damaged requests of the page's sound get an answer that blames the request, never the server."""

import http.client
import json
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.demos.browser import serve
from dragoman.stages.messages import SessionOptions
from tests.demos.browsers import fake_chain
from tests.fuzz.damage import bounded, damaged, frugal, many

ODD = st.sampled_from(
    [
        "",
        "0",
        "1",
        "-1",
        "1.5",
        "1e9",
        "16000",
        "8000",
        "999999999999",
        "NaN",
        "١٦٠٠٠",
        "0x10",
        "a b",
    ]
)
SOUND = [bytes(320), bytes(range(256)) * 4, b"\xff\x7f" * 3_200]


@pytest.fixture(scope="module")
def local():
    yield from fake_chain()


@pytest.fixture(scope="module")
def place(local):
    with serve(local, SessionOptions()) as page:
        place = urlsplit(page.url)
        yield place.hostname, place.port


@pytest.fixture
def connection(place):
    connection = http.client.HTTPConnection(*place, timeout=30)
    yield connection
    connection.close()


def answered(connection, method, path, body=b"", **headers) -> int:
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def key_of(connection) -> str:
    connection.request("POST", "/api/visit")
    answer = connection.getresponse()
    told = answer.read()
    assert answer.status == 200
    return json.loads(told)["key"]


def test_damaged_sound_requests(connection):
    key = key_of(connection)
    names = st.sampled_from(["take", "rate", "at", "take", "rate", "at", "x", "", "take[]"])

    @many
    @given(
        query=st.lists(st.tuples(names, ODD), max_size=5),
        place=st.sampled_from([key, key, key, "", "..", key[:-1], "%00", "%2e%2e", "a" * 300]),
        route=st.sampled_from(["hear", "hear", "stop", "state", "video", "live"]),
        method=st.sampled_from(["POST", "POST", "GET", "DELETE", "PUT"]),
        body=damaged(SOUND),
        kind=st.sampled_from(
            ["application/octet-stream", "application/json", "", "text/" + "x" * 99]
        ),
    )
    def case(query, place, route, method, body, kind):
        asked = "&".join(f"{n}={v}" for n, v in query).encode("utf-8").hex(" ").split()
        path = f"/api/{route}/{place}?" + "".join("%" + byte for byte in asked if asked)
        plain = "&".join(f"{n}={v}" for n, v in query if v.isascii() and " " not in v)
        for one in (path, f"/api/{route}/{place}?{plain}"):
            with bounded():
                status = answered(connection, method, one, body, **{"Content-Type": kind})
            assert status < 500

    with frugal():
        case()
    assert key_of(connection)  # the server still answers


def test_a_flood_of_headers_and_methods(connection):
    words = st.text("abcXYZ-019", min_size=1, max_size=40)

    @many
    @given(
        headers=st.dictionaries(words, words, max_size=30), method=st.sampled_from(["GET", "POST"])
    )
    def case(headers, method):
        risky = {"content-length", "transfer-encoding", "connection", "expect", "upgrade"}
        kept = {k: v for k, v in headers.items() if k.lower() not in risky}
        with bounded():
            assert answered(connection, method, "/api/visit", b"", **kept) < 500

    case()
