"""Figures and documents from answers that were made up."""

import json

import pytest

from evaluation.__main__ import with_earlier
from evaluation.figures import figures, targets
from evaluation.plots import plot
from evaluation.report import markdown
from evaluation.store import Store


def row(clip, said, heard, meant="I see the house.", translation="I see the house."):
    return {
        "clip": clip,
        "voice": f"voice {clip[-1]}",
        "seconds": 2.0,
        "said": said,
        "meant": meant,
        "transcript": heard,
        "transcript_confidences": [0.9] * len(heard.split()),
        "translation": translation,
        "translation_confidences": [],
    }


SCORES = {
    "longyaal_cu_ms": 1500.0, "longyaal_ca_ms": 1700.0, "streamlaal_cu_ms": 1600,
    "streamlaal_ca_ms": 1800, "bleu": 20.0, "chrf": 50.0, "normalized_erasure": 0.1,
    "real_time_factor": 0.3,
}  # fmt: skip


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    store = Store(tmp_path / "kept", str(folder), "python -m evaluation")
    right = [row("espeak-1", "veo la casa", "veo la casa")]
    wrong = [row("espeak-2", "veo la casa", "veo la taza", translation="")]
    talk = {
        "voice": "a", "minutes": 10.0, "captions": 9, "committed": SCORES, "shown": {},
        "lag_ms": {"1": 100, "5": None, "10": 300}, "cpu_factor": 0.2,
    }  # fmt: skip
    parts = {
        "utterances/espeak/es-en/1": wrong,  # a quick run: the larger one counts
        "utterances/espeak/es-en/10": right + wrong,
        "utterances/debian/it-en/1": right,
        "utterances/pico/fr-en/1": wrong,
        "noise/espeak/pink 5 dB/es-en/1": wrong,
        "noise/espeak/pink 20 dB/es-en/1": right,
        "sizes/full/espeak/es-en/1": right,
        "sizes/half/espeak/es-en/1": wrong,
        "invented/music/es-en/1.50min": [
            {"seconds": 90.0},
            {"shown": 6, "transcript": "sí", "transcript_confidences": [0.3]},
        ],
        "talks/es-en/10min": [talk],
    }
    for name, rows in parts.items():
        store.part(name, lambda rows=rows: rows)
    return store


def test_of_two_runs_the_larger_counts(store):
    assert figures(store)["heard"]["espeak"] == {
        "es": pytest.approx(1 / 6, abs=1e-4),
        "mean": pytest.approx(1 / 6, abs=1e-4),
        "clips": 2,
    }


def test_synthesizers_that_were_never_trained_are_taken_together(store):
    found = figures(store)["heard"]["untrained"]
    assert (found["it"], found["fr"]) == (0.0, pytest.approx(1 / 3, abs=1e-4))
    assert found["mean"] == pytest.approx(1 / 6, abs=1e-4)


def test_noise_stands_from_far_to_near(store):
    assert list(figures(store)["noise"]) == ["pink 20 dB", "pink 5 dB"]


def test_invented_words_are_counted_by_the_minute(store):
    found = figures(store)["invented"]["all"]
    assert (found["shown_a_minute"], found["final_a_minute"]) == (4.0, 0.67)
    assert found["final_a_minute_over_half"] == 0.0


def test_targets_are_met_or_missed_or_not_measured(store):
    found = targets(figures(store))
    assert found["LongYAAL CU, ms"]["met"] is True
    assert found["invented words a minute"]["met"] is False
    assert found["WER, people"] == {
        "reached": None,
        "limit": 0.35,
        "less_is_better": True,
        "met": None,
    }


def test_the_document_shows_what_was_measured(store, tmp_path):
    found = figures(store)
    json.dumps(found)
    text = markdown(found, targets(found), {"model": "tiny"})
    assert "| espeak-ng, voices never trained | 2 |" in text
    assert "| es-en | committed | 10.0 | 1.50 / 1.70 | 1.60 / 1.80 |" in text
    assert "1 min: 100 ms, 10 min: 300 ms" in text
    assert "casa → taza" in text
    assert "Not measured yet." in text  # the peer
    assert plot(found, tmp_path / "evaluation.png")


def test_nothing_measured_is_a_document_too(tmp_path):
    folder = tmp_path / "none"
    folder.mkdir()
    found = figures(Store(tmp_path, str(folder), ""))
    assert markdown(found, targets(found), {}).count("Not measured yet.") == 10
    assert plot(found, tmp_path / "evaluation.png")


def test_what_was_published_of_the_model_stays(tmp_path):
    path = tmp_path / "evaluation.json"
    found = {"heard": {"kokoro": 1}, "talks": {}, "commands": {"utterances": "new"}}
    assert with_earlier(found, "nano, 1 MB", path) == found
    earlier = {"heard": {"kokoro": 2}, "talks": {"es-en": 3}, "commands": {"talks": "old"}}
    path.write_text(json.dumps(earlier | {"about": {"model": "nano, 1 MB"}}))
    commands = {"utterances": "new", "talks": "old"}
    both = {"heard": {"kokoro": 1}, "talks": {"es-en": 3}, "commands": commands}
    assert with_earlier(found, "nano, 1 MB", path) == both
    assert with_earlier(found, "nano, 2 MB", path) == found
