"""What the model looks at: whether it is asked changes nothing, and words find their sound."""

import random
from dataclasses import replace
from difflib import SequenceMatcher

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dragoman
from dragoman.decoder.alignment import full_heads
from dragoman.decoder.packed import Request
from dragoman.models.words import normalized, words
from dragoman.stages.messages import CHUNK_SAMPLES, SAMPLE_RATE_HZ
from dragoman.stages.policies import commit
from dragoman.stages.spans import rising, spans
from evaluation.align import SAMPLES
from tests.stages.segments import BRIEF, PIECES, SEEDS, run, segment, texts
from training.synthesizers import Espeak

PAUSE = SAMPLE_RATE_HZ * 3 // 2


class AskingAgreement(commit.LocalAgreement):
    watches = True


def details(captions):
    """All that is said of the words, to the last digit."""
    both = [(c.transcript, c.translation) for c in captions]
    return texts(captions), [[text.confidences for text in pair] for pair in both]


@settings(max_examples=5, deadline=None)
@given(pieces=PIECES, seed=st.sampled_from(SEEDS), sound=st.integers(0, 99), pad=st.booleans())
def test_asking_changes_no_caption_by_a_bit(make, pieces, seed, sound, pad):
    stage, items, options = make(seed), segment(pieces, sound), replace(BRIEF, pad_audio=pad)
    without, _ = run(stage, items, options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(commit.POLICIES, "local-agreement", AskingAgreement)
        asked, states = run(stage, items, options)
        looks = states[-1].transcript.looks
    assert details(asked) == details(without)
    assert len(looks) == len(states[-1].transcript.ids)
    assert all(0 <= place < max(1, sum(pieces)) for place in looks)


@pytest.mark.parametrize(("name", "asks"), [("local-agreement", False), ("align-att", True)])
def test_who_does_not_ask_pays_nothing(stage, monkeypatch, name, asks):
    passes = []
    watch = stage.model.watch
    monkeypatch.setattr(stage.model, "watch", lambda some: passes.append(1) or watch(some))
    captions, _ = run(stage, segment([3, 2, 2, 2]), replace(BRIEF, commit_policy=name))
    assert captions and bool(passes) == asks
    assert not any(caption.transcript.spans for caption in captions), "no heads are known"


def test_a_look_is_where_the_position_before_a_token_sees_most(stage):
    options = replace(BRIEF, commit_policy="align-att")
    _, states = run(stage, segment([4, 3]), options)
    state = states[-1]
    ids = [*state.prompt.before, *[stage.context._soft_token] * 7, *state.prompt.after]
    answer = [*state.transcript.ids, *state.prompt.separator, *state.translation.ids]
    cache = stage.model.new_cache()
    embeddings = stage.model.embed(torch.tensor([[*ids, *answer]]))
    begin = len(state.prompt.before)
    embeddings[0, begin : begin + 7] = torch.cat(state.again.audio)
    end = begin + 7
    embeddings[0, end : end + 1] = stage.embedder.hard(torch.tensor([[ids[end]]]))[0]
    whole = Request(
        cache,
        torch.tensor([[*ids, *answer]]),
        embeddings,
        len(answer) + 1,
        full_heads(stage.model.config),
    )
    (seen,) = stage.model.watch([whole])
    seen = seen[:, :-1, begin : begin + 7]
    places = (seen / seen.sum(-1, keepdim=True)).sum(0).argmax(-1).tolist()
    assert state.transcript.looks == places[: len(state.transcript.ids)]
    assert state.translation.looks == places[len(answer) - len(state.translation.ids) :]


def test_values_out_of_order_are_replaced_by_their_mean():
    assert rising([1, 5, 3, 4, 9]) == [1, 4, 4, 4, 9]
    assert rising([3, 2, 1]) == [2, 2, 2] and rising([]) == []


def test_words_lie_around_what_their_tokens_look_at():
    pieces, looks = ["▁El", " tr", "en", " sa", "le", "."], [1, 4, 6, 20, 22, 30]
    heard = (16_000, 16_000 + 40 * CHUNK_SAMPLES)
    found = spans(["El", "tren", "sale."], ["El", *pieces[1:]], looks, heard, 1_600, True)
    middles = [(first + past) / 2 for first, past in found]
    assert middles[1] == pytest.approx(16_000 + 5.5 * CHUNK_SAMPLES - 1_600, abs=1)
    assert found == tuple(sorted(found)) and all(first < past for first, past in found)
    near = spans(["El", "tren"], ["El", " tren"], [3, 4], heard, 0, True)
    assert near[0][1] == near[1][0], "where they would overlap one ends as the other begins"
    other = spans(["El", "tren"], ["El", " tren"], [9, 2], heard, 0, False)
    assert other[1] < other[0], "a translation has its own order"
    first = spans(["El"], ["El"], [0], heard, 9_000, True)
    assert first == ((16_000, 16_000),), "no word is spoken before its segment"


@pytest.fixture(scope="module")
def spoken():
    """Sentences in voices that calibration never had, and the true beginnings of their words."""
    espeak, rng = Espeak(), random.Random(5)
    lines = (SAMPLES / "talk.es.txt").read_text(encoding="utf-8").splitlines()[:2]
    pieces, truth, at = [np.zeros(PAUSE)], [], PAUSE
    for line in lines:
        uttered = espeak.speak(line, espeak.draw(rng, "es", "test"))
        starts = [at + start for start in uttered.word_starts_samples]
        truth += zip(map(normalized, line.split()), starts, strict=True)
        pieces += [uttered.samples / 2**15, np.zeros(PAUSE)]
        at += len(uttered.samples) + PAUSE
    sound = np.concatenate(pieces)
    return sound + np.random.default_rng(0).normal(0, 1e-3, len(sound)), truth


def test_live_words_are_within_200_ms_of_the_truth(spoken):
    sound, truth = spoken
    with dragoman.Captioner(ray=False) as captioner:
        captions = captioner.caption(sound.astype(np.float32), pace="fast")
        texts = [caption.transcript for caption in captions if caption.kind == "final"]
    found = [
        (normalized(word), begin)
        for text in texts
        for word, (begin, _) in zip(words(text.whole), text.spans, strict=True)
    ]
    alike = SequenceMatcher(None, [w for w, _ in found], [w for w, _ in truth], False)
    errors = [
        abs(found[block.a + n][1] - truth[block.b + n][1]) / SAMPLE_RATE_HZ
        for block in alike.get_matching_blocks()
        for n in range(block.size)
    ]
    assert len(errors) > len(truth) / 2
    assert np.mean(errors) < 0.15 and np.quantile(errors, 0.8) < 0.2
