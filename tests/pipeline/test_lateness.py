"""The times of words, and what is said of them at the end."""

import json

from dragoman.pipeline.events import summary
from dragoman.pipeline.lateness import Lateness, lags, told
from dragoman.stages.messages import Caption, Text

SECOND = 16_000


def caption(at_s, committed, tail="", lag_ms=None, final=False, segment=0):
    text = Text(committed, tail)
    latency = {} if lag_ms is None else {"lag_ms": lag_ms}
    kind = "final" if final else "partial"
    end = round(at_s * SECOND)
    return Caption(kind, segment, 0, end, "es", "en", Text("sí"), text, latency=latency)


SESSION = [
    caption(1, "", "the rain", lag_ms=100),
    caption(2, "the", " train leaves", lag_ms=200),
    caption(3, "the train", " leaves", lag_ms=900),
    caption(4, "The train, leaves today.", lag_ms=300, final=True),
]


def noted(captions):
    lateness = Lateness()
    return [lateness.note(caption) for caption in captions], lateness


def test_each_word_of_a_final_has_its_times():
    (*partial, final), _ = noted(SESSION)
    assert all(not caption.translation.timing for caption in partial)
    assert final.translation.timing == (
        (1_000, 1_100, 2_200),  # however it is punctuated
        (2_000, 2_200, 3_900),
        (2_000, 2_200, 4_300),
        (4_000, 4_300, 4_300),
    )
    event = final.to_event()["translation"]
    assert event["timing"] == [list(times) for times in final.translation.timing]
    assert "timing" not in partial[0].to_event()["translation"], "events stay small"


def test_every_segment_begins_anew():
    (_, final), _ = noted([caption(1, "", "one"), caption(3, "one", final=True, segment=1)])
    assert final.translation.timing == ((3_000, 3_000, 3_000),)


def test_nobody_waits_at_the_pace_fast():
    _, lateness = noted([caption(1, "", "one two"), caption(2, "one two", final=True)])
    assert lateness.summary() == {
        "shown": {"p50": 0, "p95": 0},
        "committed": {"p50": 1_000, "p95": 1_000},
        "lag": {},
    }


def test_the_summary_has_waits_and_lags():
    _, lateness = noted(SESSION)
    found = lateness.summary()
    assert found["shown"] == {"p50": 200, "p95": 300}  # of 100, 200, 200, 300
    assert found["committed"] == {"p50": 1_900, "p95": 2_300}  # of 1200, 1900, 2300, 300
    assert told(found).startswith("half of the words were committed within 1.9 s of their sound")
    event = json.loads(summary("a", 4.0, found))
    assert event == {"session": "a", "kind": "summary", "time": 4.0, **found}


def test_a_session_without_words_has_nothing_to_tell():
    _, lateness = noted([])
    assert lateness.summary() == {"shown": None, "committed": None, "lag": {}}
    assert told(lateness.summary()) == ""


def test_the_lag_is_that_before_a_minute():
    waits = [(10, 1), (50, 100), (55, 300), (60, 200), (61, 9), (299, 700), (3_590, 40)]
    found = lags([caption(at, "a", lag_ms=ms, segment=n) for n, (at, ms) in enumerate(waits)])
    assert found == {"1": 200, "5": 700, "10": None, "60": 40}
    _, lateness = noted([caption(60, "a", lag_ms=1_500, final=True)])
    assert told(lateness.summary()).endswith(", lag at minute 1 1.5 s")
