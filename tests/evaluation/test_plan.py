"""The measurements on the bundled model and a test set of one recording, and how they resume."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from dragoman.pipeline.media import read_audio
from evaluation import plan
from evaluation.bench import Amounts, Bench, Unavailable
from evaluation.confidence import words
from evaluation.scores import word_errors
from evaluation.sets import SETS, TestSet, directions
from evaluation.store import Store
from tests.conftest import ROOT
from training.speech_parts import Record

TALK = ROOT / "samples" / "talk.wav"
LITTLE = Amounts(clips=2, noisy_clips=1, invented_minutes=0.2, talk_minutes=0.1, talks=1)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """A test set of the sample's first sentence, twice, as people would have said it."""
    folder = tmp_path_factory.mktemp("speech")
    first = (ROOT / "samples" / "talk.es.txt").read_text(encoding="utf-8").splitlines()[0]
    samples = np.concatenate(list(read_audio(TALK)))
    end = 4 * 16_000  # the sentence and the pause behind it
    spoken = (samples[:end] * 2**15).astype(np.int16)
    for name in ("espeak", "people"):
        part = folder / "test" / name
        part.mkdir(parents=True)
        record = Record(end, "es", {"es": first, "en": "Hi."}, ["1"], name, "a@1", False, [], [])
        np.save(part / "one.npy", np.concatenate([spoken, spoken]))
        line = json.dumps(asdict(record)) + "\n"
        (part / "one.jsonl").write_text(2 * line, encoding="utf-8")
    return folder


@pytest.fixture
def bench(speech, tmp_path):
    store = Store(tmp_path / "kept", "nano", "python -m evaluation")
    return Bench("nano", store, speech, tmp_path / "whisper", tmp_path, LITTLE)


def test_every_set_is_heard_and_nothing_is_heard_twice(bench):
    plan.utterances(bench)
    parts = bench.store.parts("utterances")
    assert {"espeak/es-en/2", "people/es-en/2"} <= set(parts)
    rows = parts["espeak/es-en/2"].rows
    assert word_errors(rows).rate < 0.5 and len(rows) == 2
    assert len(words(rows)) == sum(len(row["transcript"].split()) for row in rows)
    kept = bench.store.folder / "utterances" / "espeak" / "es-en" / "2.jsonl"
    made = kept.stat().st_mtime_ns
    plan.utterances(bench)
    assert kept.stat().st_mtime_ns == made


def test_noise_is_added_to_the_set_most_like_people(bench):
    plan.noise(bench)
    parts = bench.store.parts("noise")
    assert len(parts) == len(plan.SNR_DB), "one clip has nobody to babble"
    assert "espeak/pink 20 dB/es-en/1" in parts


def test_each_nested_size_is_heard(bench):
    plan.nested(bench)
    sizes = plan.nested_sizes("nano")
    assert sizes[:2] == ["full", "half"]
    assert {f"{size}/espeak/es-en/1" for size in sizes} == set(bench.store.parts("sizes"))


def test_sounds_that_are_no_speech_go_through_the_live_pipeline(bench, monkeypatch):
    quiet = {"silence": lambda samples, rng: np.zeros(samples, np.float32)}
    monkeypatch.setattr(plan, "sounds", lambda folder: quiet)
    plan.invented(bench)
    (part,) = bench.store.parts("invented").values()
    assert part.rows == [{"seconds": 12.0}], "in silence nothing is shown"


def test_what_is_missing_is_said(bench, tmp_path):
    with pytest.raises(Unavailable, match="evaluation.peer"):
        plan.peer(bench)
    empty = Bench("nano", bench.store, tmp_path, tmp_path, tmp_path, LITTLE)
    with pytest.raises(Unavailable, match="training.speech"):
        plan.noise(empty)


def test_a_set_gives_so_many_clips_of_a_language(speech):
    found = TestSet.open(speech, "espeak", most=1)
    (clip,) = found.clips("es")
    assert clip.samples.dtype == np.float32 and np.abs(clip.samples).max() <= 1
    assert (clip.voice, clip.seconds) == ("a", 4.0), "speed and pitch are no other voice"
    assert found.languages == ["es"] and not list(found.clips("en"))
    assert not TestSet.open(speech, "kokoro").languages


def test_directions_are_those_of_the_model():
    pairs = [("es", "en"), ("en", "es"), ("fr", "en")]
    assert directions(pairs, ["es", "fr"]) == [("es", "en"), ("fr", "en")]
    anything = directions([], ["en", "es", "fr"])
    assert set(anything) == {("en", "es"), ("en", "fr"), ("es", "en"), ("fr", "en")}


def test_all_sets_have_a_title():
    assert set(SETS) >= {"kokoro", "espeak", "pico", "debian", "people"}
