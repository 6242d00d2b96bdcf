"""Endless batches: what is drawn, how it is packed, what has an empty answer."""

import itertools
import random
from collections import Counter

import pytest
import torch

from tests.training.corpus_like import LANGUAGES, write_speech, write_text
from training import stream as streams
from training.batch import CHUNK_SAMPLES, IGNORE, Batcher, Spoken
from training.speech_parts import SAMPLE_RATE_HZ, Speech
from training.stream import (
    Shelves,
    Source,
    Stream,
    augmented,
    loader,
    plain,
    shelf_of,
    target_of,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    return write_speech(folder / "speech"), write_text(folder / "text")


@pytest.fixture
def stream(folders, batcher) -> Stream:
    return Stream(folders[0], folders[1], batcher, seconds=4.0, seed=3, seen=100_000)


def spoken_of(seconds: float) -> Spoken:
    return Spoken(torch.zeros(round(seconds * SAMPLE_RATE_HZ)), [], [], "es", "en", "")


def test_batches_have_few_shapes_and_lose_no_row(batcher):
    shelves, rng, seen = Shelves(seconds=8.0), random.Random(0), Counter()
    for number in range(400):
        row = batcher.row(spoken_of(rng.uniform(0.3, 4.0)), rng)
        if full := shelves.add(row._replace(given=number)):
            rows, length = full
            assert shelf_of(max(one.tokens for one in rows)) == length
            assert len(rows) == max(1, 50 // length)
            seen.update(one.given for one in rows)
    assert max(seen.values()) == 1 and len(seen) > 350
    assert [shelf_of(n) for n in (1, 6, 7, 8, 9, 11, 100)] == [6, 6, 8, 8, 10, 12, 101]


def test_batches_are_as_large_as_wanted_and_repeatable(stream):
    first, again = (list(itertools.islice(stream.heard(), 4)) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.audio, b.audio) and torch.equal(a.answers, b.answers)
    slack = 2 * CHUNK_SAMPLES / SAMPLE_RATE_HZ
    for batch in first:
        rows, samples = batch.audio.shape
        assert rows * (samples / SAMPLE_RATE_HZ - slack) <= 4.0 or rows == 1
        assert torch.isfinite(batch.audio).all() and batch.audio.abs().max() <= 1


def test_worker_processes_draw_for_themselves(stream):
    found = list(itertools.islice(loader(stream.heard, 2), 4))
    assert not any(
        a.audio.shape == b.audio.shape and torch.equal(a.audio, b.audio)
        for a, b in itertools.combinations(found, 2)
    )


def test_what_is_no_speech_of_ours_is_answered_by_nothing(stream, monkeypatch):
    monkeypatch.setattr(streams, "NOTHING_SHARE", 0.2)
    monkeypatch.setattr(streams, "FOREIGN_SHARE", 0.2)
    monkeypatch.setattr(streams, "MISTAKEN_SHARE", 0.2)
    source, seen = Source(stream, "seed"), {"nothing": 0, "foreign": 0, "mistaken": 0, "heard": 0}
    own = {text for one in Speech(stream.speech).records for text in one.texts.values()}
    for _ in range(200):
        one = source.spoken()
        assert (one.language == "en") != (one.target == "en")
        if not one.known:
            kind = "foreign"
            assert not one.words
        elif not one.words:
            kind = "nothing"
        else:
            kind = "heard" if one.expected else "mistaken"
            assert " ".join(one.words) in own
        seen[kind] += 1
        assert one.expected == (kind in ("heard", "nothing"))
    assert all(20 < seen[kind] < 65 for kind in ("nothing", "foreign", "mistaken")), seen


def test_the_prompt_of_mistaken_speech_names_another_language(stream, monkeypatch):
    monkeypatch.setattr(streams, "MISTAKEN_SHARE", 1.0)
    source, spoken = Source(stream, "seed"), {}
    for one in Speech(stream.speech).records:
        spoken[one.texts[one.language]] = one.language
    heard = [one for one in (source.spoken() for _ in range(40)) if one.words]
    assert heard and all(spoken[" ".join(one.words)] != one.language for one in heard)


def test_new_speech_is_found_while_training(folders, batcher, tmp_path, monkeypatch):
    from tests.training.corpus_like import write_part

    write_part(tmp_path, "train", "noise", "a", [("es", {"es": "Uno.", "en": "One."}, 0.5)])
    monkeypatch.setattr(streams, "REFRESH", 10)
    source = Source(Stream(tmp_path, folders[1], batcher, 4.0, 0), "seed")
    write_part(tmp_path, "train", "noise", "b", [("fr", {"fr": "Deux.", "en": "Two."}, 0.5)])
    languages = [one.language for one in (source.spoken() for _ in range(60)) if one.words]
    assert "fr" not in languages[:9] and "fr" in languages[12:]


def test_no_speech_is_an_error_that_says_so(folders, batcher, tmp_path):
    with pytest.raises(FileNotFoundError, match="training.speech"):
        next(Stream(tmp_path, folders[1], batcher, 4.0, 0).heard())


def test_written_batches_pair_all_languages_with_english(stream, tokenizer):
    batches = stream.written(8)
    told = set()
    for batch in itertools.islice(batches, 12):
        assert batch.audio.shape == (8, 0)
        for row in batch.answers:
            text = tokenizer.decode(row[row != IGNORE].tolist())
            told.add(text.partition("\n")[2].partition(":")[0])
    assert told == {"English", "Spanish", "French", "Italian", "Portuguese"}


def test_an_utterance_stands_between_silences(folders):
    example = Speech(folders[0], languages=["es"])[0]
    level = torch.from_numpy(example.samples) / 32_768
    one = plain(example, "en")
    assert not one.samples[:4_800].any() and not one.samples[-6_400:].any()
    assert torch.equal(one.samples[4_800:-6_400], level)
    assert one.word_ends == [end + 4_800 for end in example.record.word_ends_samples]
    assert (one.language, one.target, one.translation) == ("es", "en", example.translation("en"))
    clean = augmented(example, "en", random.Random(0), None)
    start = int(clean.samples.ne(0).nonzero()[0])
    assert clean.word_ends[-1] == pytest.approx(start + len(example.samples), abs=2)


def test_english_goes_everywhere_and_everything_to_english():
    rng = random.Random(0)
    assert {target_of("en", rng) for _ in range(60)} == set(LANGUAGES) - {"en"}
    assert {target_of(one, rng) for one in LANGUAGES[1:]} == {"en"}


def test_cut_share_is_the_batchers_own(folders, tokenizer):
    whole = Stream(folders[0], folders[1], Batcher(tokenizer, cut_share=0.0), 4.0, 0, 100_000)
    for batch in itertools.islice(whole.heard(), 3):
        assert (batch.tokens * CHUNK_SAMPLES >= batch.audio.ne(0).sum(1)).all()
