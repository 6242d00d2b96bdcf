"""Recordings: made once, turned off, and given up one by one where they fail; none on the CPU."""

import torch

from dragoman.kernels import graphs


def test_a_recording_is_made_once_and_may_be_turned_off():
    made, recordings = list[int](), graphs.Recordings[int]()

    def make() -> int:
        made.append(1)
        return 5

    assert recordings.get("a", make) == recordings.get("a", make) == 5
    with graphs.off():
        assert recordings.get("a", make) is None
    assert recordings.get("a", make) == 5
    assert made == [1]


def test_there_are_at_most_so_many(monkeypatch):
    monkeypatch.setattr(graphs, "MOST", 1)
    recordings = graphs.Recordings[int]()
    assert recordings.get("a", lambda: 5) == 5
    assert recordings.get("b", lambda: 6) is None
    assert recordings.get("a", lambda: 7) == 5


def test_a_recording_that_fails_is_told_once_and_not_tried_again(caplog):
    recordings, tried = graphs.Recordings[int](), list[int]()

    def fails() -> int:
        tried.append(1)
        raise RuntimeError("operation not permitted when stream is capturing")

    assert recordings.get("a", fails) is recordings.get("a", fails) is None
    assert tried == [1] and recordings.error.startswith("operation not permitted")
    assert recordings.get("b", lambda: 6) == 6, "others are recorded all the same"
    assert recordings.get("c", fails) is None and tried == [1, 1]
    assert len(recordings) == 1
    (record,) = caplog.records
    assert "no CUDA graph of some work, which makes it slower: operation not" in record.message


def test_nothing_is_recorded_on_the_cpu():
    def work() -> None: ...

    assert graphs.record(work, torch.device("cpu")) is work
