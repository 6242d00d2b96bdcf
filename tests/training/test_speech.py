"""The corpus of speech: what a part holds, resuming, reading while it grows, and leaks."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from training import speech
from training.speech import build, plan
from training.speech_parts import LeakError, Record, Speech, check_disjoint
from training.text import LANGUAGES, Texts
from training.voices import DEV_VOICES, HELD_OUT_VOICES, TRAIN_VARIANTS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One training part of 30 seconds and a few utterances for evaluation, by espeak-ng."""
    out = tmp_path_factory.mktemp("speech")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speech, "PART_SECONDS", 120)
        build(out, plan("espeak", "train", 0.2, 0, seed=1)[:1])
    for split in ("dev", "test"):
        build(out, plan("espeak", split, 0, utterances=3, seed=1))
    return out


def test_examples_hold_together(folder):
    trained = Speech(folder)
    assert 120 <= trained.seconds < 160 and len(trained) > 20
    assert {record.language for record in trained.records} == set(LANGUAGES)
    for example in map(trained.__getitem__, range(len(trained))):
        record, S = example.record, len(example.samples)
        assert example.samples.dtype == np.int16 and example.samples.std() > 300
        assert S == record.samples <= 25 * 16_000
        assert set(record.texts) == set(LANGUAGES) and record.exact_times
        assert example.text == record.texts[example.language] == " ".join(example.words)
        assert example.translation("en") == record.texts["en"]
        starts, ends = record.word_starts_samples, record.word_ends_samples
        assert len(starts) == len(ends) == len(example.words) and ends[-1] == S
        assert all(a <= b for a, b in itertools.pairwise(starts)) and starts[0] >= 0
        assert all(a < b for a, b in zip(starts, ends, strict=True))


def test_joined_sentences_have_a_pause_between(folder):
    trained = Speech(folder)
    joined = [i for i, record in enumerate(trained.records) if len(record.ids) > 1]
    assert joined
    record = trained.records[joined[0]]
    gaps = [
        (end, start)
        for end, start in zip(
            record.word_ends_samples, record.word_starts_samples[1:], strict=False
        )
        if start - end >= 200 * 16
    ]
    assert len(gaps) == len(record.ids) - 1
    assert not any(trained[joined[0]].samples[end:start].any() for end, start in gaps)


def test_sentences_and_voices_of_evaluation_are_apart(folder):
    check_disjoint(folder)
    texts = Texts()
    for split, voices in (("dev", DEV_VOICES), ("test", HELD_OUT_VOICES)):
        records = Speech(folder, split).records
        kept = {sentence.id for sentence in texts.held_out(split)}
        assert {id for record in records for id in record.ids} <= kept
        assert {_variant(record) for record in records} <= {voice.variant for voice in voices}
        assert len({record.texts["en"] for record in records if record.language == "it"}) == 3
    assert {_variant(record) for record in Speech(folder).records} <= set(TRAIN_VARIANTS)


def test_leaks_are_refused(folder, tmp_path):
    kept = Speech(folder, "test").records[0]
    spoken = kept.texts[kept.language]
    shorter = kept.texts | {kept.language: spoken.split(" ", 1)[1]}
    other = dict.fromkeys(LANGUAGES, "x")
    leaks = {
        "rows of text": dataclasses.replace(kept, voice="other", texts=other),
        "speakers": dataclasses.replace(kept, ids=["x"], texts=other, voice=kept.voice + "0"),
        f"sentences in {kept.language}": dataclasses.replace(
            kept, ids=["x"], voice="other", texts=shorter
        ),
    }
    for number, (message, leak) in enumerate(leaks.items()):
        out = tmp_path / str(number)
        _write(out / "train" / "espeak", leak)
        _write(out / "test" / "espeak", kept)
        with pytest.raises(LeakError, match=message):
            check_disjoint(out)


def test_the_reader_leaves_out_what_is_near_to_evaluation(folder, tmp_path):
    kept, other = Speech(folder, "test").records[:2]
    near = kept.texts | {"fr": kept.texts["fr"].rsplit(" ", 1)[0]}
    _write(tmp_path / "train" / "espeak", dataclasses.replace(kept, texts=near), other)
    trained = Speech(tmp_path, apart_from=[kept])
    assert trained.records == [other] and trained.left_out == 1
    assert trained[0].samples[0] == 2
    assert len(Speech(tmp_path)) == 2


def test_a_finished_part_is_left_alone_and_an_interrupted_one_is_made_anew(tmp_path, monkeypatch):
    parts = plan("espeak", "dev", 0, utterances=2, seed=4)[:2]
    build(tmp_path, parts)
    paths = [tmp_path / "dev" / "espeak" / f"{part.name}.npy" for part in parts]
    before = [path.read_bytes() for path in paths]
    paths[0].write_bytes(b"mine")
    paths[1].with_suffix(".jsonl").unlink()
    build(tmp_path, parts)
    assert paths[0].read_bytes() == b"mine"
    assert paths[1].read_bytes() == before[1]
    assert not [path for path in tmp_path.rglob("*") if ".tmp" in path.name]


def test_the_reader_follows_and_filters(folder, tmp_path):
    out = tmp_path / "dev" / "espeak"
    kept = Speech(folder, "dev", languages=("es",)).records
    assert {record.language for record in kept} == {"es"}
    _write(out, *kept)
    growing = Speech(tmp_path, "dev", languages=("es", "fr"))
    assert len(growing) == 3 and growing.refresh() == 0
    first = growing[0].samples
    french = dataclasses.replace(kept[0], language="fr")
    _write(tmp_path / "dev" / "alpha", french, kept[1])
    assert growing.refresh() == 2 and len(growing) == 5
    assert np.array_equal(growing[0].samples, first)
    assert growing[3].language == "fr" and growing[4].samples[0] == 2
    assert len(Speech(tmp_path, "dev", synthesizers=("alpha",), languages=("fr",))) == 1
    with pytest.raises(IndexError):
        growing[5]
    with pytest.raises(ValueError, match="languages"):
        Speech(tmp_path, "dev", languages=("de",))


def test_a_command_that_cannot_be_done_is_refused(tmp_path):
    with pytest.raises(ValueError, match="synthesizer"):
        plan("parrot", "train", 1, 0, 1)
    with pytest.raises(ValueError, match="ask for fewer"):
        build(tmp_path, plan("espeak", "dev", 0, utterances=100_000, seed=1)[:1])


def _variant(record: Record) -> str:
    return record.voice.split("+")[1].split("@")[0]


def _write(folder, *records: Record) -> None:
    """A part whose utterances are constant: 1, 2, ..."""
    folder.mkdir(parents=True)
    samples = [np.full(record.samples, n, np.int16) for n, record in enumerate(records, 1)]
    np.save(folder / "a.npy", np.concatenate(samples))
    lines = [json.dumps(dataclasses.asdict(record)) for record in records]
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
