import json

import numpy as np
import pytest

from tests.training.corpus_like import LANGUAGES, ROWS, write_part, write_speech
from training.pack import decode, encode, pack, unpack
from training.speech_parts import SAMPLE_RATE_HZ, Speech

TEXTS = dict(zip(LANGUAGES, ROWS[0], strict=True))


def sweep(seconds: float) -> np.ndarray:
    """A tone that rises from 200 Hz to 3 kHz, int16."""
    time = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    hz = 200 + 2_800 * time / seconds / 2
    return (12_000 * np.sin(2 * np.pi * hz * time)).astype(np.int16)


def snr_db(truth: np.ndarray, got: np.ndarray) -> float:
    noise = got.astype(float) - truth
    return 10 * np.log10((truth.astype(float) ** 2).mean() / (noise**2).mean())


@pytest.mark.parametrize("form, least_db, bytes_an_hour", [("mulaw", 30, 58e6), ("opus", 12, 16e6)])
def test_samples_come_back_at_their_place(form, least_db, bytes_an_hour):
    samples = sweep(4.0)
    stored = encode(samples, form)
    got = decode(stored, form, len(samples))
    assert got.dtype == np.int16 and len(got) == len(samples)
    assert snr_db(samples, got) > least_db, "a shift by one sample would leave next to nothing"
    assert len(stored) * 3_600 / 4 < bytes_an_hour


def test_mulaw_keeps_the_extremes():
    samples = np.array([-32_768, -1, 0, 1, 32_767], np.int16)
    got = decode(encode(samples, "mulaw"), "mulaw", 5)
    assert np.abs(got.astype(int) - samples).max() < 700
    assert got[2] == 0


@pytest.mark.parametrize("form", ["mulaw", "opus"])
def test_a_corpus_goes_there_and_back(tmp_path, form):
    write_speech(tmp_path / "here")
    (piece,) = pack(tmp_path / "here", tmp_path / "packed", form)
    assert unpack(tmp_path / "packed", tmp_path / "there") == 3
    for split in ("train", "dev", "foreign"):
        ours, theirs = Speech(tmp_path / "here", split), Speech(tmp_path / "there", split)
        assert ours.records == theirs.records != []
        assert ours[len(ours) - 1].samples.shape == theirs[len(ours) - 1].samples.shape
    assert piece.stat().st_size < sum(p.stat().st_size for p in (tmp_path / "here").rglob("*.npy"))


def test_pieces_are_as_small_as_asked_and_hold_whole_parts(tmp_path):
    for name in ("a", "b", "c"):
        write_part(tmp_path / "here", "train", "noise", name, [("es", TEXTS, 1.0)])
    pieces = pack(tmp_path / "here", tmp_path / "packed", "mulaw", piece_bytes=50_000)
    assert len(pieces) == 3 and all(p.stat().st_size <= 50_000 for p in pieces)
    assert unpack(tmp_path / "packed", tmp_path / "there", processes=2) == 3
    with pytest.raises(ValueError, match="larger pieces"):
        pack(tmp_path / "here", tmp_path / "packed", "mulaw", piece_bytes=16_000)


def test_what_is_there_is_not_unpacked_again(tmp_path):
    path = write_part(tmp_path / "here", "train", "noise", "a", [("es", TEXTS, 1.0)])
    pack(tmp_path / "here", tmp_path / "packed", "mulaw")
    before = path.with_suffix(".npy").read_bytes()
    assert unpack(tmp_path / "packed", tmp_path / "here") == 0
    assert path.with_suffix(".npy").read_bytes() == before
    assert json.loads(path.read_text())["language"] == "es"


def test_without_pyav_mulaw_alone_is_there(monkeypatch):
    monkeypatch.setattr("training.pack.av", None)
    samples = sweep(0.1)
    stored = encode(samples, "mulaw")
    assert len(decode(stored, "mulaw", len(samples))) == len(samples)
    with pytest.raises(ModuleNotFoundError, match="--form mulaw"):
        encode(samples, "opus")


def test_a_folder_without_pieces_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="piece-"):
        unpack(tmp_path, tmp_path)
