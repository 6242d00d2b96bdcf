"""The corpus: round trip, separation of training from evaluation, the sample talk."""

import dataclasses
import itertools
import pickle

import pytest
import torch

from training import corpus as corpora
from training.corpus import Corpus, LeakError, Splits, build, check_disjoint, load
from training.grammar import split_of
from training.sample import TALK, VOICE, render
from training.voices import HELD_OUT_VOICES, TRAIN_VARIANTS


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Splits:
    return build(
        tmp_path_factory.mktemp("corpus"), utterances=60, seed=3, dev=12, test=16, processes=1
    )


def parts(built: Splits) -> list[Corpus]:
    return [built.train, built.dev, built.test]


def test_sizes(built):
    assert [len(part) for part in parts(built)] == [60, 12, 16]
    assert 60 < built.train.seconds < 400


def test_examples_hold_together(built):
    for part in parts(built):
        for index in range(len(part)):
            example = part[index]
            S = len(example.samples)
            assert example.samples.dtype == torch.int16 and example.samples.float().std() > 300
            assert " ".join(example.words) == example.spanish
            ends = example.word_ends_samples
            assert len(ends) == len(example.words) and ends[-1] == S
            assert all(a < b for a, b in itertools.pairwise(ends))
            assert all(s < e for s, e in zip(example.word_starts_samples, ends, strict=True))
            prefixes = example.english_prefixes
            assert len(prefixes) == len(example.words) + 1
            assert prefixes[0] == "" and prefixes[-1] == example.english
            assert all(b.startswith(a) for a, b in itertools.pairwise(prefixes))


def test_sentences_and_voices_of_evaluation_are_never_trained(built):
    trained = {s for r in built.train.records for s in r.sentences}
    tested = {s for r in built.test.records for s in r.sentences}
    assert not trained & tested
    assert {split_of(s) for s in trained} == {"train"} and {split_of(s) for s in tested} == {"test"}
    assert {r.variant for r in built.train.records} <= set(TRAIN_VARIANTS)
    assert {r.variant for r in built.test.records} <= {v.variant for v in HELD_OUT_VOICES}


def test_leaks_are_refused(built):
    check_disjoint(built)
    record, heard = built.train.records[0], built.test.records[0]
    leaks = (
        dataclasses.replace(record, variant=heard.variant),
        dataclasses.replace(record, sentences=heard.sentences),
    )
    for leak in leaks:
        built.train.records[0] = leak
        try:
            with pytest.raises(LeakError):
                check_disjoint(built)
        finally:
            built.train.records[0] = record


def test_some_utterances_join_two_sentences_with_a_pause(built):
    joined = [i for i, r in enumerate(built.train.records) if len(r.sentences) == 2]
    assert 2 <= len(joined) <= 25
    example, record = built.train[joined[0]], built.train.records[joined[0]]
    words = len(record.sentences[0].split())
    end, start = example.word_ends_samples[words - 1], example.word_starts_samples[words]
    assert 150 * 16 <= start - end <= 450 * 16
    assert not example.samples[end:start].any()
    assert example.english_prefixes[words].endswith((".", "?"))


def test_same_seed_same_corpus_and_an_interrupted_build_goes_on(tmp_path, monkeypatch):
    whole = build(tmp_path / "whole", utterances=12, seed=4, dev=2, test=2, processes=1)
    make, done = corpora._make_part, []

    def interrupted(*job) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job)
        make(*job)

    monkeypatch.setattr(corpora, "_PART", 5)
    monkeypatch.setattr(corpora, "_make_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "a", utterances=12, seed=4, dev=2, test=2, processes=1)
    monkeypatch.setattr(corpora, "_make_part", make)
    resumed = build(tmp_path / "a", utterances=12, seed=4, dev=2, test=2, processes=1)
    straight = build(tmp_path / "b", utterances=12, seed=4, dev=2, test=2, processes=1)
    assert resumed.train.records == straight.train.records
    assert all(torch.equal(resumed.train[i].samples, straight.train[i].samples) for i in range(12))
    assert resumed.train.records[:5] == whole.train.records[:5]
    assert not list((tmp_path / "a").glob("parts*"))


def test_load_pickle_and_errors(built, tmp_path):
    again = pickle.loads(pickle.dumps(built.test))
    assert torch.equal(again[1].samples, built.test[1].samples)
    with pytest.raises(IndexError):
        built.test[len(built.test)]
    with pytest.raises(FileNotFoundError, match="python -m training.corpus"):
        load(tmp_path / "nothing")
    assert all(0 < r.abs().max() <= 1 for r in built.train.recordings(3, seed=1))


def test_sample_talk_was_never_trained():
    assert VOICE.variant not in TRAIN_VARIANTS
    assert {split_of(spanish) for spanish, _ in TALK} == {"test"}
    samples = torch.from_numpy(render())
    assert 24 * 16_000 < len(samples) < 36 * 16_000
    lead, tail = samples[:10_000].float(), samples[-14_000:].float()
    assert 0 < lead.std() < 60 and 0 < tail.std() < 60
