"""Transcripts of people's recordings, and the reading of their file formats."""

import re
import subprocess

import av
import numpy as np
import pytest

from training import people
from training.people import SPEAKERS, TRANSCRIPTS, PeopleError, build, read, transcripts
from training.speech_parts import Speech
from training.text import LANGUAGES


def write(path, rate_hz: int, codec: str, container: str) -> None:
    """Two seconds of a tone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = (8_000 * np.sin(np.arange(2 * rate_hz) * 2 * np.pi * 440 / rate_hz)).astype(np.int16)
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate_hz, layout="mono")
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        frame.rate = rate_hz
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)


def test_every_speaker_has_a_clean_table():
    assert {path.stem for path in TRANSCRIPTS.glob("*.tsv")} == set(SPEAKERS)
    allowed = re.compile(r"[A-ZÀ-ÿa-zŒœ¿][A-Za-zÀ-ÿŒœ ,.?!¿'-]*[.?!]")
    seconds: dict[str, int] = dict.fromkeys(LANGUAGES, 0)
    for name in SPEAKERS:
        lines = transcripts(name)
        assert len({line.file for line in lines}) == len(lines)
        for line in lines:
            assert line.language == name[-2:] and allowed.fullmatch(line.text), line
            seconds[line.language] += 1
    assert all(seconds[language] >= 40 for language in ("en", "es", "fr", "it"))


@pytest.mark.parametrize(
    ("name", "rate_hz", "codec", "container"),
    [
        ("a.wav", 8_000, "pcm_s16le", "wav"),
        ("a.g722", 16_000, "g722", "g722"),
        ("a.raw", 16_000, "pcm_s16le", "s16le"),
    ],
)
def test_recordings_are_read_at_16_khz(tmp_path, name, rate_hz, codec, container):
    write(tmp_path / name, rate_hz, codec, container)
    samples = read(tmp_path / name)
    assert samples.dtype == np.int16 and abs(len(samples) - 32_000) < 400
    middle = samples[8_000:24_000].astype(float)
    assert np.abs(np.fft.rfft(middle)).argmax() == 440  # 1 Hz a bin
    assert 4_000 < middle.std() < 7_000


def test_recordings_become_a_test_part(tmp_path, monkeypatch):
    def download(package: str, folder) -> None:
        for name in SPEAKERS:
            if SPEAKERS[name].package == package:
                for line in transcripts(name):
                    path = folder / "usr" / "share" / SPEAKERS[name].folder / line.file
                    write(path, 16_000, "pcm_s16le", "wav")

    monkeypatch.setattr(people, "_download", download)
    monkeypatch.setattr(people, "SPEAKERS", {"paola-it": SPEAKERS["paola-it"]})
    build(tmp_path)
    heard = Speech(tmp_path, "test", synthesizers=("people",))
    lines = transcripts("paola-it")
    assert [heard[i].text for i in range(len(heard))] == [line.text for line in lines]
    assert heard.records[0].voice == "paola-it" and heard[0].samples.std() > 4_000


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(people, "_download", lambda package, folder: None)
    with pytest.raises(PeopleError, match="allison-en has no recording"):
        build(tmp_path)
    monkeypatch.undo()

    def refuse(*_, **__):
        raise subprocess.CalledProcessError(100, "apt-get")

    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(PeopleError, match="apt-get update"):
        build(tmp_path)
    (tmp_path / "x.tsv").write_text("file\tlanguage\ttext\na.wav\ten\n")
    with pytest.raises(PeopleError, match="x.tsv:2"):
        transcripts("x", tmp_path)
