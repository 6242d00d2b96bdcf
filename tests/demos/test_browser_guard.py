"""Who may use the page of `dragoman demo`, asked over real connections."""

import http.client
import json
import socket
import ssl
import subprocess
import time
from urllib.parse import urlsplit

import pytest

from dragoman import errors
from dragoman.demos import browser_guard, browser_visitor, cli
from dragoman.demos.browser import serve
from dragoman.server import guard
from dragoman.server.serving import Certificate, serving
from dragoman.stages.messages import SessionOptions
from tests.demos.browsers import fake_chain
from tests.waiting import PATIENCE_S, eventually

SECOND = bytes(32_000)
MUCH = 2**25  # bytes: more than waits between two programs, so one is still sending


@pytest.fixture(scope="module")
def local():
    yield from fake_chain()


@pytest.fixture(scope="module")
def served(local):
    with serve(local, SessionOptions(), names=["captions.test"]) as page:
        yield page


def ask(served, method, path, body=None, **headers):
    """Status, headers and body of an answer."""
    place = urlsplit(served.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=PATIENCE_S)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def visit(served) -> str:
    status, _, body = ask(served, "POST", "/api/visit")
    assert status == 200
    return json.loads(body)["key"]


GRADIO = [
    ("GET", "/config"),
    ("GET", "/theme.css"),
    ("GET", "/"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/gradio_api/queue/join"),
    ("GET", "/gradio_api/file=/etc/passwd"),
    ("OPTIONS", "/gradio_api/upload"),
]
OURS = [
    ("POST", "/api/visit"),
    ("GET", "/api/state/{}"),
    ("POST", "/api/hear/{}?take=1&rate=8000&at=0"),
    ("POST", "/api/clear/{}"),
    ("POST", "/api/video/{}?name=x.wav"),
    ("DELETE", "/api/video/{}?number=1"),
    ("POST", "/api/choices/{}"),
    ("GET", "/api/inside/{}"),
    ("GET", "/api/inside/{}/0/sound.wav"),
    ("GET", "/api/live/{}/live.wav"),
    ("POST", "/api/share/{}"),
    ("DELETE", "/api/share/{}"),
    ("GET", "/captions/x"),
    ("GET", "/v1/captions/x"),
]


@pytest.mark.parametrize(("method", "path"), GRADIO + OURS)
def test_a_foreign_origin_is_refused_everywhere(served, method, path):
    for origin in ("https://evil.example", "null", "http://localhost:1", "http://[::1"):
        status, headers, _ = ask(
            served, method, path.format(visit(served)), b"", Origin=origin, Cookie="a=b",
            Access_Control_Request_Method="POST",
        )  # fmt: skip
        assert status == 403
        assert not [name for name in headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(("method", "path"), GRADIO + OURS)
def test_a_name_that_was_pointed_here_is_refused_everywhere(served, method, path):
    status, _, body = ask(served, method, path.format(visit(served)), b"", Host="evil.example:7860")
    assert status == 421 and b"--allow-host" in body


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1:7860",
        "[::1]:7860",
        "192.168.1.7",
        "captions.test",
        socket.gethostname(),
    ],
)
def test_this_machine_has_many_names(served, host):
    status, headers, _ = ask(served, "POST", "/api/visit", Host=host, Origin=f"http://{host}")
    assert status == 200
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("host", ["", "127.0.0.1.evil.example", "[::1", "0x7f.1", "a@127.0.0.1.b"])
def test_what_only_looks_like_this_machine_is_refused(served, host):
    assert ask(served, "POST", "/api/visit", Host=host)[0] == 421


def test_other_sites_may_link_to_the_page_and_nothing_else(served):
    cross = {"Sec_Fetch_Site": "cross-site"}
    assert ask(served, "GET", "/", Sec_Fetch_Mode="navigate", **cross)[0] == 200
    assert ask(served, "GET", "/", Sec_Fetch_Mode="no-cors", **cross)[0] == 403
    state = f"/api/state/{visit(served)}"
    assert ask(served, "GET", state, Sec_Fetch_Mode="navigate", **cross)[0] == 403
    assert ask(served, "GET", state, Sec_Fetch_Mode="cors", Sec_Fetch_Site="same-origin")[0] == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/gradio_api/upload"),
        ("POST", "/gradio_api/queue/join"),
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("GET", "/gradio_api/proxy=http://127.0.0.1"),
        ("POST", "/gradio_api/vibe-edit"),
        ("GET", "/monitoring"),
        ("GET", "/docs"),
        ("POST", "/"),
        ("GET", "/assets/../config"),
    ],
)
def test_routes_of_gradio_that_the_page_does_not_use_are_closed(served, method, path):
    assert ask(served, method, path, b"{}")[0] in (403, 404, 405)


def test_sound_is_taken_from_pages_that_were_opened_only(served):
    place = "?take=1&rate=16000&at=0"
    key = visit(served)
    assert ask(served, "POST", f"/api/hear/{key}{place}", SECOND)[0] == 200
    status, _, body = ask(served, "POST", f"/api/hear/{key[:-1]}x{place}", SECOND)
    assert status == 403 and b"reload" in body
    ask(served, "POST", f"/api/clear/{key}")


@pytest.mark.parametrize(
    ("place", "body", "expected"),
    [
        ("?take=1&rate=7999&at=0", SECOND, 422),
        ("?take=1&rate=192001&at=0", SECOND, 422),
        ("?take=1&rate=16000&at=-1", SECOND, 422),
        ("?take=x&rate=16000&at=0", SECOND, 422),
        ("?take=1&rate=16000&at=0", b"odd", 400),
        ("?take=1&rate=16000&at=0", bytes(browser_guard.SOUND_BYTES + 2), 413),
        ("?take=1&rate=16000&at=0", bytes(MUCH), 413),
    ],
)
def test_sound_that_makes_no_sense_is_refused(served, place, body, expected):
    key = visit(served)
    assert ask(served, "POST", f"/api/hear/{key}{place}", body)[0] == expected
    state = json.loads(ask(served, "GET", f"/api/state/{key}")[2])
    assert state["live"]["state"] == "Ready"


def test_too_large_an_upload_is_refused_before_it_is_sent(served):
    """The body never comes: an answer that waits for it would not come either."""
    place = urlsplit(served.url)
    with socket.create_connection((place.hostname, place.port), PATIENCE_S) as connection:
        connection.sendall(
            f"POST /api/video/{visit(served)}?name=film.mp4 HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Length: {browser_guard.UPLOAD_BYTES + 1}\r\n\r\n".encode()
        )
        assert b" 413 " in connection.recv(1_000).splitlines()[0]


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}])
def test_who_is_refused_while_sending_hears_why(served, headers):
    """To close while a request still comes resets the connection, and with it the answer."""
    status, answer, body = ask(served, "POST", "/api/visit", bytes(MUCH), **headers)
    assert status in (403, 421) and b"detail" in body
    assert answer["Connection"] == "close"


@pytest.mark.parametrize("bound", ["LINGER_BYTES", "LINGER_S", "LINGER_IDLE_S"])
def test_a_refused_request_is_not_read_for_ever(served, monkeypatch, bound):
    for name, few in {"LINGER_BYTES": 2**20, "LINGER_S": 0.3, "LINGER_IDLE_S": 0.3}.items():
        monkeypatch.setattr(guard, name, few if name == bound else 2**40)
    place, piece = urlsplit(served.url), b"%x\r\n%s\r\n" % (len(SECOND), SECOND)
    with socket.create_connection((place.hostname, place.port), PATIENCE_S) as connection:
        connection.sendall(
            b"POST /api/visit HTTP/1.1\r\nHost: evil.example\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        assert b" 421 " in connection.recv(1_000).splitlines()[0]
        if bound == "LINGER_IDLE_S":
            while connection.recv(1_000):
                pass
            return
        with pytest.raises(ConnectionError):
            while True:
                connection.sendall(piece)


def test_an_upload_that_grows_too_large_is_cut_off(served, monkeypatch):
    monkeypatch.setattr(browser_guard, "UPLOAD_BYTES", 100_000)
    chunks = iter([bytes(30_000)] * 10)  # without a length
    key = visit(served)
    status, _, body = ask(served, "POST", f"/api/video/{key}?name=a.wav", chunks)
    assert status == 413 and b"dragoman translate" in body
    folder = served.visitors.get(key).folder.parent
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_full_disk_refuses_uploads(served, monkeypatch):
    key = visit(served)

    def grows():  # without a length
        yield SECOND
        eventually(lambda: any(served.visitors.get(key).folder.iterdir()))
        monkeypatch.setattr(browser_visitor, "ROOM_BYTES", 2**60)
        yield SECOND

    for sound in (grows(), SECOND):
        status, _, body = ask(served, "POST", f"/api/video/{key}?name=a.wav", sound)
        assert status == 413 and b"no room" in body


def test_a_page_that_goes_while_it_sends_is_no_error(served, caplog):
    place, key = urlsplit(served.url), visit(served)
    for path in (f"/api/video/{key}?name=film.mp4", f"/api/hear/{key}?take=1&rate=16000&at=0"):
        with socket.create_connection((place.hostname, place.port), PATIENCE_S) as connection:
            connection.sendall(
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n-".encode()
            )
            time.sleep(0.5)
    eventually(lambda: not list(served.visitors.get(key).folder.iterdir()))
    time.sleep(0.5)
    assert caplog.records == []


def test_a_file_is_closed_by_its_number(served):
    """A word about the one before it may come late."""
    key = visit(served)
    assert ask(served, "POST", f"/api/clip/{key}")[0] == 200
    state = f"/api/state/{key}"
    for number, expected in [(0, 1), (2, 1), (1, 0)]:
        assert ask(served, "DELETE", f"/api/video/{key}?number={number}")[0] == 200
        assert json.loads(ask(served, "GET", state)[2])["video"]["number"] == expected


@pytest.mark.parametrize("name", ["../../x.wav", "/etc/x.wav", "a\x1b[2Jb.wav", "x" * 900 + ".wav"])
def test_names_of_uploads_are_no_paths(served, name):
    from urllib.parse import quote

    key = visit(served)
    status, _, body = ask(served, "POST", f"/api/video/{key}?name={quote(name, safe='')}", SECOND)
    assert status == 415 and b"not a media file" in body
    assert b"\\u001b" not in body and b"/etc" not in body and b"/tmp" not in body


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"language": "xx"}', b"unknown language"),
        (b'{"target_language": "de"}', b"es to de"),
        (b'{"size": "../../etc/passwd.json"}', b"choose auto, full, half"),
        (b'{"pad_audio": true}', b"cannot be chosen"),
        (b'["es"]', b"expected an object"),
        (b"\xff", b"detail"),
    ],
)
def test_what_cannot_be_chosen_is_refused_and_changes_nothing(served, body, words):
    key = visit(served)
    status, _, said = ask(served, "POST", f"/api/choices/{key}", body)
    assert status == 400 and words in said
    assert served.visitors.get(key).options == SessionOptions()


def test_a_link_for_viewers_is_another_key_and_ends(served):
    key = visit(served)
    _, _, body = ask(served, "POST", f"/api/share/{key}", b"https://captions.test/")
    told = json.loads(body)
    path = f"/{told['path']}"
    assert key not in path and told["code"].startswith("data:image/svg+xml")
    assert json.loads(ask(served, "POST", f"/api/share/{key}")[2])["path"] == told["path"]
    cross = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    status, headers, _ = ask(served, "GET", path, **cross)  # from a mail, as links are sent
    assert status == 200 and "default-src 'self'" in headers["Content-Security-Policy"]
    assert ask(served, "GET", f"/v1{path}", **cross)[0] == 403
    assert ask(served, "POST", path)[0] == 404
    for other in (f"/captions/{key}", "/captions/", "/captions/assets/viewer.py"):
        assert ask(served, "GET", other)[0] == 404
    assert ask(served, "GET", f"/api/state/{path.rpartition('/')[2]}")[0] == 403
    assert ask(served, "DELETE", f"/api/share/{key}")[0] == 200
    for ended in (path, f"/v1{path}"):
        assert ask(served, "GET", ended)[0] == 404


def test_files_are_those_of_the_page_alone(served):
    key = visit(served)
    for path in ("live/{}/live.wav", "inside/{}/0", "inside/{}/0/sound.wav"):  # nothing was said
        assert ask(served, "GET", f"/api/{path.format(key)}")[0] == 404
    for path in ("live/{}/..%2f..%2fetc%2fpasswd", "live/{}/live.json.bak", "video/{}/0/talk.mp4"):
        assert ask(served, "GET", f"/api/{path.format(key)}")[0] == 404


def test_a_certificate_that_cannot_be_used_is_explained_before_anything_is_loaded(tmp_path, capsys):
    key, other, bad = tmp_path / "key.pem", tmp_path / "other.pem", tmp_path / "bad.pem"
    certificate = tmp_path / "certificate.pem"
    _make(certificate, key)
    _make(tmp_path / "unused.pem", other)
    bad.write_text("not a key\n")
    for file, secret, said in [
        (certificate, bad, "no certificate and its key"),
        (certificate, other, "no certificate and its key"),
        (bad, key, "no certificate and its key"),
        (certificate, tmp_path / "none.pem", "does not exist"),
    ]:
        options = ["--ssl-certfile", str(file), "--ssl-keyfile", str(secret)]
        assert cli.main(["demo", "--no-browser", "--port", "0", *options]) == errors.USAGE
        error = capsys.readouterr().err
        assert said in error and "Traceback" not in error and "port" not in error
    locked = tmp_path / "locked.pem"
    subprocess.run(
        ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", locked], check=True
    )
    with pytest.raises(errors.UsageError, match="wants a password"):
        Certificate(certificate, locked).check()


def test_https_is_served(tmp_path):
    certificate = Certificate(tmp_path / "certificate.pem", tmp_path / "key.pem")
    _make(certificate.certificate, certificate.key)

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})

    with serving(app, "127.0.0.1", 0, certificate) as url:
        place = urlsplit(url)
        assert place.scheme == "https"
        context = ssl.create_default_context(cafile=str(certificate.certificate))
        connection = http.client.HTTPSConnection("localhost", place.port, context=context)
        connection.request("GET", "/")
        assert connection.getresponse().status == 204
        connection.close()


def _make(certificate, key) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        + ["-nodes", "-days", "1", "-subj", "/CN=localhost"]
        + ["-addext", "subjectAltName=DNS:localhost"]
        + ["-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
