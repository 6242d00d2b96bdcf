"""Files by OpenAI's own client, through the bundled model."""

import io
import tempfile
import time
import wave
from pathlib import Path

import httpx
import numpy as np
import openai
import pysubs2
import pytest

from dragoman.models.languages import LANGUAGES
from dragoman.pipeline.media import read_audio
from dragoman.pipeline.subtitles import cues
from dragoman.server.limits import Limits
from dragoman.stages.messages import SessionOptions
from tests.demos.test_cli import write_wav
from tests.server.servers import client, served

TALK = Path(__file__).resolve().parents[2] / "samples" / "talk.wav"
RATE_HZ = 16_000


@pytest.fixture(scope="module")
def talk(tmp_path_factory) -> Path:
    """The first sentences of the sample."""
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    samples = np.concatenate(list(read_audio(TALK)))[: 9 * RATE_HZ]
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes((samples * 32_767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def expected(real, talk):
    options = SessionOptions(finals_only=True)
    found = list(real.caption(talk, options, pace="fast"))
    assert all(caption.kind == "final" for caption in found)
    spoken = [caption for caption in found if caption.transcript.whole]
    assert len(spoken) > 1
    return spoken


@pytest.fixture(scope="module")
def asked(real):
    with served(real, aliases=["whisper-1", "openai/whisper-1"]) as url:
        yield client(url).audio


def joined(captions, which) -> str:
    return " ".join(filter(None, (getattr(caption, which).whole for caption in captions)))


def test_the_text_is_that_of_the_python_api(asked, talk, expected):
    said = asked.transcriptions.create(file=talk, model="nano")
    assert said.text == joined(expected, "transcript")
    assert said.usage.seconds == pytest.approx(9.0)
    written = asked.translations.create(file=talk, model="whisper-1")
    assert written.text == joined(expected, "translation")


def test_every_format_says_the_same(asked, talk, expected):
    create = asked.transcriptions.create
    said = joined(expected, "transcript")
    assert create(file=talk, model="nano", response_format="text") == said + "\n"
    for form in ("srt", "vtt"):
        text = create(file=talk, model="nano", response_format=form)
        events = pysubs2.SSAFile.from_string(text, form).events
        shown = [(event.start, event.plaintext.split("\n")) for event in events]
        planned = cues(expected)
        assert shown == [(cue.start_ms, list(cue.lines)) for cue in planned]


def test_verbose_json_has_the_times(asked, talk, expected):
    verbose = asked.transcriptions.create(
        file=talk, model="nano", response_format="verbose_json", language="es",
        timestamp_granularities=["segment"], extra_body={"to_language": "en"},
    )  # fmt: skip
    assert (verbose.language, verbose.duration) == (LANGUAGES["es"].name.lower(), 9.0)
    assert [(s.id, s.start, s.end, s.text) for s in verbose.segments] == [
        (at, round(c.start / RATE_HZ, 3), round(c.end / RATE_HZ, 3), c.transcript.whole)
        for at, c in enumerate(expected)
    ]
    assert all(-1 < segment.avg_logprob <= 0 for segment in verbose.segments)
    assert verbose.model_extra["translation"] == joined(expected, "translation")
    written = asked.translations.create(file=talk, model="nano", response_format="verbose_json")
    assert (written.language, written.segments[0].text) == (
        "english", expected[0].translation.whole
    )  # fmt: skip


def test_a_stream_grows_into_the_text(asked, talk):
    events = list(asked.transcriptions.create(file=talk, model="nano", stream=True))
    assert [event.type for event in events[:-1]] == ["transcript.text.delta"] * (len(events) - 1)
    assert events[-1].type == "transcript.text.done" and len(events) > 3
    assert "".join(event.delta for event in events[:-1]) == events[-1].text


@pytest.mark.parametrize(
    ("fields", "error", "code"),
    [
        ({"model": "gpt-9"}, openai.NotFoundError, "model_not_found"),
        ({"language": "xx"}, openai.BadRequestError, "invalid_value"),
        ({"language": "fr"}, openai.BadRequestError, "invalid_value"),
        ({"response_format": "diarized_json"}, openai.BadRequestError, "invalid_value"),
        ({"prompt": "names"}, openai.BadRequestError, "unsupported_parameter"),
        ({"timestamp_granularities": ["word"]}, openai.BadRequestError, "unsupported_value"),
        ({"extra_body": {"langauge": "es"}}, openai.BadRequestError, "unknown_parameter"),
        ({"file": ("a.wav", b"not sound")}, openai.BadRequestError, "invalid_file"),
        ({"file": ("/etc/x", b"#EXTM3U\n/etc/x")}, openai.BadRequestError, "invalid_file"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_explained(asked, talk, fields, error, code):
    with pytest.raises(error) as raised:
        asked.transcriptions.create(**{"file": talk, "model": "nano", **fields})
    assert raised.value.code == code
    assert "/tmp" not in raised.value.message and "dragoman-serve" not in raised.value.message


def test_files_beyond_the_places_are_refused_and_places_come_back(fake, tmp_path):
    wav = write_wav(tmp_path / "talk.wav", 3.0)
    with served(fake, limits=Limits(files=0)) as url, pytest.raises(openai.RateLimitError) as full:
        client(url).audio.transcriptions.create(file=wav, model="nano")
    assert full.value.code == "server_full" and full.value.response.headers["retry-after"]
    with served(fake, limits=Limits(files=1)) as url:
        for _ in range(3):
            assert client(url).audio.transcriptions.create(file=wav, model="nano").text
            events = client(url).audio.transcriptions.create(file=wav, model="nano", stream=True)
            assert list(events)[-1].type == "transcript.text.done"


def test_too_large_a_file_is_refused_and_none_is_kept(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with served(fake, limits=Limits(upload_bytes=100_000)) as url:
        with pytest.raises(openai.APIStatusError) as large:
            client(url).audio.transcriptions.create(
                file=("a.wav", io.BytesIO(bytes(300_000))), model="nano"
            )
        assert large.value.status_code == 413 and "--max-upload-mb" in large.value.message
        wav = write_wav(tmp_path / "talk.wav", 1.0)
        assert client(url).audio.transcriptions.create(file=wav, model="nano").text
        (folder,) = tmp_path.glob("dragoman-serve-*")
        assert list(folder.iterdir()) == []
    assert not folder.exists()


def test_a_file_that_comes_too_slowly_gives_its_place_back(fake, tmp_path):
    def slowly():
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        time.sleep(1.0)
        yield b"\r\n--x--\r\n"

    limits = Limits(files=1, upload_s=0.3)
    with served(fake, limits=limits) as url:
        place, headers = (
            f"{url}/v1/audio/transcriptions",
            {"Content-Type": "multipart/form-data; boundary=x"},
        )
        slow = httpx.post(place, content=slowly(), headers=headers)
        assert (slow.status_code, slow.json()["error"]["code"]) == (408, "upload_too_slow")
        wav = write_wav(tmp_path / "talk.wav", 1.0)
        assert client(url).audio.transcriptions.create(file=wav, model="nano").text


def test_a_full_disk_refuses_files(fake, tmp_path):
    wav = write_wav(tmp_path / "talk.wav", 1.0)
    with served(fake, limits=Limits(room_bytes=2**60)) as url:
        with pytest.raises(openai.APIStatusError) as full:
            client(url).audio.transcriptions.create(file=wav, model="nano")
        assert (full.value.status_code, full.value.code) == (413, "disk_full")


def test_the_server_tells_about_itself(asked):
    models = asked._client.models.list().data
    assert [model.id for model in models] == ["nano", "whisper-1", "openai/whisper-1"]
    assert [asked._client.models.retrieve(model.id) for model in models] == models
    url = str(asked._client.base_url).removesuffix("/v1/")
    assert httpx.get(f"{url}/health").json() == {"status": "ok", "model": "nano"}
    assert (
        'dragoman_sessions_ended_total{how="done",kind="file"}' in httpx.get(f"{url}/metrics").text
    )
