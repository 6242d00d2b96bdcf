"""Who may use the API, asked over real connections."""

import httpx
import openai
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from dragoman.server.access import KEY_IN_PROTOCOL, Rules
from tests.server.servers import SEGMENT_S, Socket, client, served, tone

KEY = "a-key-of-many-letters"
APP = "https://app.example"
ROUTES = [
    ("POST", "/v1/audio/transcriptions"),
    ("POST", "/v1/audio/translations"),
    ("GET", "/v1/models"),
    ("GET", "/metrics"),
    ("GET", "/nothing"),
]
SOCKETS = ["/v1/realtime", "/v1/realtime/translations"]


@pytest.fixture(scope="module")
def url(fake):
    with served(fake, rules=Rules(KEY, ["captions.test"], [APP])) as url:
        yield url


def ask(url: str, method: str, path: str, **headers: str) -> httpx.Response:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.request(method, url + path, headers=told, timeout=30)


def refused(url: str, path: str, **options) -> httpx.Response:
    """The answer to a handshake that is refused."""
    with pytest.raises(InvalidStatus) as raised:
        connect(f"ws{url.removeprefix('http')}{path}", **options)
    answer = raised.value.response
    return httpx.Response(answer.status_code, content=bytes(answer.body or b""))


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("told", ["", "Bearer wrong", f"Bearer {KEY}x", f"Basic {KEY}", "Bearer"])
def test_every_route_wants_the_key(url, method, path, told):
    answer = ask(url, method, path, Authorization=told)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("path", SOCKETS)
def test_web_sockets_want_the_key(url, path):
    assert refused(url, path).json()["error"]["code"] == "invalid_api_key"
    wrong = {"Authorization": "Bearer wrong"}
    assert refused(url, path, additional_headers=wrong).status_code == 401


def test_openais_client_sends_the_key(url):
    assert client(url, KEY).models.list().data[0].id == "nano"
    with pytest.raises(openai.AuthenticationError):
        client(url, "wrong").models.list()
    asked = {"intent": "transcription"}
    with client(url, KEY).realtime.connect(extra_query=asked) as connection:
        assert connection.recv().type == "session.created"


def test_a_browser_sends_the_key_as_openais_do(url):
    socket = connect(
        f"ws{url.removeprefix('http')}/v1/realtime",
        subprotocols=[Subprotocol(name) for name in ("realtime", KEY_IN_PROTOCOL + KEY)],
    )
    assert socket.subprotocol == "realtime"
    socket.close()


def test_health_and_viewers_need_no_key(url):
    assert ask(url, "GET", "/health").status_code == 200
    headers = {"Authorization": f"Bearer {KEY}"}
    with Socket(url, "/v1/realtime?rate=16000", additional_headers=headers) as socket:
        link = socket.created["session"]["viewers"]
        page = ask(url, "GET", link)
        assert (
            page.status_code == 200
            and "default-src 'self'" in (page.headers["content-security-policy"])
        )
        socket.append(tone(SEGMENT_S))
    assert ask(url, "GET", f"{link[:-1]}-").status_code == 404


@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("GET", "/health"), ("GET", "/captions/x")])
def test_a_foreign_origin_is_refused_everywhere(url, method, path):
    for origin in ("https://evil.example", "null", "http://localhost:1", f"{APP}.evil.example"):
        answer = ask(url, method, path, Origin=origin, Authorization=f"Bearer {KEY}")
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "origin_not_allowed"
        assert not [name for name in answer.headers if name.startswith("access-control")]
    site = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}
    assert ask(url, method, path, Authorization=f"Bearer {KEY}", **site).status_code == 403


@pytest.mark.parametrize("path", SOCKETS)
def test_a_page_of_a_foreign_origin_opens_no_web_socket(url, path):
    headers = {"Origin": "https://evil.example", "Authorization": f"Bearer {KEY}"}
    assert refused(url, path, additional_headers=headers).status_code == 403


def test_an_allowed_origin_reads_the_answers(url):
    before = ask(url, "OPTIONS", "/v1/models", Origin=APP, Access_Control_Request_Method="GET")
    assert before.status_code == 204
    assert "authorization" in before.headers["access-control-allow-headers"]
    answer = ask(url, "GET", "/v1/models", Origin=APP, Authorization=f"Bearer {KEY}")
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == APP
    assert ask(url, "GET", "/v1/models", Origin=APP).status_code == 401
    headers = {"Origin": APP, "Authorization": f"Bearer {KEY}"}
    Socket(url, "/v1/realtime", additional_headers=headers).__exit__()


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/captions/x"])
def test_a_name_that_was_pointed_here_is_refused(url, path):
    answer = ask(url, "GET", path, Host="evil.example", Authorization=f"Bearer {KEY}")
    assert answer.status_code == 421 and "--allow-host" in answer.json()["error"]["message"]
    known = ask(url, "GET", "/v1/models", Host="captions.test", Authorization=f"Bearer {KEY}")
    assert known.status_code == 200


def test_what_is_refused_is_counted(url):
    ask(url, "GET", "/v1/models")
    figures = ask(url, "GET", "/metrics", Authorization=f"Bearer {KEY}").text
    (line,) = [
        line for line in figures.splitlines()
        if line.startswith('dragoman_refusals_total{code="invalid_api_key"}')
    ]  # fmt: skip
    assert float(line.split()[-1]) >= 1
