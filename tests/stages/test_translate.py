"""Over random weights: they talk without end, so every bound and promise is put to the test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.decoder.speculation import Lookahead
from dragoman.errors import LanguageError
from dragoman.models import prompt as prompts
from dragoman.models.answers import Flag, Part
from dragoman.models.checkpoint import Checkpoint
from dragoman.stages import spoken
from dragoman.stages import translate as translate_stage
from dragoman.stages.messages import CHUNK_SAMPLES, Caption
from dragoman.stages.policies.commit import without_loop
from dragoman.stages.translate import TranslateState
from tests import nano_like
from tests.stages.segments import BRIEF, NEVER_EARLY, OPTIONS, PIECES, SEEDS, run, segment, texts


@settings(max_examples=12, deadline=None)
@given(pieces=PIECES, seed=st.sampled_from(SEEDS), pad=st.booleans())
def test_fed_in_pieces_equals_the_whole_segment_at_once(make, pieces, seed, pad):
    stage, items, options = (
        make(seed),
        segment(pieces),
        replace(BRIEF, update_chunks=10_000, pad_audio=pad),
    )
    captions, states = run(stage, items, options)
    whole = replace(items[-1], tokens=torch.cat([i.tokens for i in items]), opens=True)
    at_once, _ = run(stage, [whole], options)
    assert texts(captions) == texts(at_once)
    assert all(state.transcript.ids == [] for state in states[:-1])


def first_six(ids: list[int]) -> list[int]:
    return ids[:6]


@pytest.mark.parametrize("cut", [without_loop, first_six])
def test_the_final_equals_decoding_without_a_cache(stage, tiny_folder, monkeypatch, cut):
    """Also where the transcript was cut after it had entered the cache, as a loop is."""
    for module in (translate_stage, spoken):
        monkeypatch.setattr(module, "without_loop", cut)
    checkpoint = Checkpoint.open(str(tiny_folder))
    model, tokenizer = checkpoint.language_model(), checkpoint.tokenizer
    prompt = prompts.build(tokenizer, "es", "en")
    items = segment([1, 2, 3, 2], seed=3)
    _, states = run(stage, items, NEVER_EARLY)
    soft = torch.cat([item.tokens for item in items])
    ids = [*prompt.before, *[tokenizer.special("<audio_soft_token>")] * len(soft), *prompt.after]
    first = len(prompt.before)
    for found in (states[-1].transcript.ids, states[-1].translation.ids):
        answer: list[int] = []
        while len(answer) < OPTIONS.max_answer_tokens:
            row = torch.tensor([[*ids, *answer]])
            embeddings = model.embed(row)
            embeddings[0, first : first + len(soft)] = soft
            end = torch.tensor([prompt.after[0]])
            embeddings[0, first + len(soft)] = checkpoint.embedder("audio").hard(end)[0]
            logits = model(embeddings, row)[0, -1, : nano_like.TEXT_VOCAB]
            if int(logits.argmax()) in prompt.stop:
                break
            answer.append(int(logits.argmax()))
        if found is states[-1].transcript.ids:
            answer = states[-1].reader.transcript(answer)
        assert found == cut(answer)
        assert len(set(found)) > 2
        ids += [*found, *prompt.separator]


@settings(max_examples=25, deadline=None)
@given(
    pieces=PIECES, seed=st.sampled_from(SEEDS), sound=st.integers(0, 99), every=st.integers(1, 3)
)
def test_committed_text_is_append_only(make, pieces, seed, sound, every):
    stage = make(seed)
    captions, states = run(stage, segment(pieces, sound), replace(BRIEF, update_chunks=every))
    for before, after in zip(captions, captions[1:], strict=False):
        assert after.transcript.committed.startswith(before.transcript.committed)
        assert after.translation.committed.startswith(before.translation.committed)
    for before, after in zip(states, states[1:], strict=False):
        for a, b in (
            (before.transcript, after.transcript),
            (before.translation, after.translation),
        ):
            assert b.ids[: a.committed] == a.ids[: a.committed], "what is committed is forced"
            assert a.committed <= b.committed <= len(b.ids)
    assert [c.kind for c in captions[:-1]] == ["partial"] * (len(captions) - 1)
    for caption in captions[-1:]:
        assert caption.kind == "final"
        assert caption.transcript.tail == caption.translation.tail == ""


def test_partials_commit_something_before_the_end(make):
    """Otherwise the promises above would be empty."""
    early = 0
    for seed in SEEDS:
        captions, _ = run(make(seed), segment([1] * 12, seed))
        early += sum(
            bool(c.transcript.committed and c.translation.committed) for c in captions[:-1]
        )
    assert early > 4


def test_the_answer_is_bounded(stage):
    """Random weights go on without end: bounded by the options, and by what can be said."""
    for most, chunks in ((5, 6), (256, 6), (256, 1)):
        _, states = run(stage, segment([chunks]), replace(OPTIONS, max_answer_tokens=most))
        possible = 12 + round(12 * chunks * 0.16)
        assert 1 < len(states[-1].transcript.ids) <= min(most, possible)
        assert len(states[-1].translation.ids) <= min(most, possible)


def test_a_fresh_segment_knows_nothing_of_the_last(stage):
    items = segment([1, 1, 2], seed=5)
    state = stage.init_state(OPTIONS)
    for item in segment([2, 2]):
        _, state = stage.step(item, state)
    captions = []
    for item in items:
        out, state = stage.step(item, state)
        captions += out
    assert texts(captions) == texts(run(stage, items)[0])


def test_tokens_of_a_segment_that_is_not_open_are_refused(stage):
    with pytest.raises(ValueError, match="segment 1 is not open"):
        stage.step(segment([1, 1])[1], stage.init_state(OPTIONS))


def test_an_unknown_language_is_refused(stage):
    with pytest.raises(LanguageError, match="unknown language 'xx'"):
        stage.init_state(replace(OPTIONS, language="xx"))


def test_captions_say_what_they_are(stage):
    items = [replace(item, start=800) for item in segment([2, 2])]
    (first, last), _ = run(stage, items, replace(OPTIONS, language="fr", target_language="pt"))
    assert (first.language, first.target_language) == ("fr", "pt")
    assert (first.segment, first.start, first.end) == (1, 800, 2 * CHUNK_SAMPLES)
    assert last.end == 4 * CHUNK_SAMPLES
    assert first.transcript.whole == first.transcript.whole.lstrip() != ""


def scripted(
    stage, monkeypatch, items, *answers: str
) -> tuple[list[Caption], list[TranslateState]]:
    """Captions where the model gives these whole answers in turn, and the states behind them.

    Behind anything else than the beginning of its answer, or our label in the place of its own, the
    model has nothing to say.
    """
    script, stop = [stage.tokenizer.encode(answer) for answer in answers], 5
    separator = prompts.build(stage.tokenizer, "es", "en").separator

    class Scripted(Lookahead):
        """Says what it is told."""

        def __init__(self, *args):
            super().__init__(*args)
            self._script = script.pop(0)

        def after(self, answer, guess=(), judged=0):
            yield from ()
            said = [*answer]
            if said != self._script[: len(said)]:
                text = stage.tokenizer.decode(said).partition("\nEnglish:")[2]
                whole = stage.tokenizer.decode(self._script)
                label = next((mark for mark in LABELS if mark in whole), None)
                if label is None or separator[0] not in said:
                    return stop
                rest = stage.tokenizer.encode(whole.partition(label)[2])
                count = len(stage.tokenizer.encode(text))
                return rest[count] if count < len(rest) else stop
            return self._script[len(said)] if len(said) < len(self._script) else stop

        def chances(self, before, ids):
            return [0.5] * len(ids)

    monkeypatch.setattr(translate_stage, "Lookahead", Scripted)
    captions, states = run(stage, items, replace(OPTIONS, max_answer_tokens=200))
    assert not script
    return captions, states


LABELS = ("**English:**", "English translation:", "### English\n\n", "English:")


@pytest.mark.parametrize("nothing", ["", " ", ".", "<bos>", "¿?", "\n", "\nEnglish: The dog"])
def test_a_segment_without_words_gives_no_caption(stage, monkeypatch, nothing):
    captions, states = scripted(stage, monkeypatch, segment([1, 1, 1]), *[nothing] * 3)
    assert captions == []
    assert states[-1].translation.ids == [], "nothing is translated where nothing was said"


def test_words_that_turn_out_to_be_noise_are_taken_back(stage, monkeypatch):
    captions, _ = scripted(stage, monkeypatch, segment([1, 1]), "El\nEnglish: The", "")
    assert [c.transcript.whole for c in captions] == ["El", ""]
    assert [c.translation.whole for c in captions] == ["The", ""]
    assert captions[-1].kind == "final"


def test_words_are_committed_once_two_updates_agree(stage, monkeypatch):
    captions, _ = scripted(
        stage,
        monkeypatch,
        segment([1, 1, 1]),
        "El niño\nEnglish: The boy",
        "El niño come\nEnglish: The boy eats",
        "El niño corre\nEnglish: The boy runs",
    )
    spanish = [(c.transcript.committed, c.transcript.tail) for c in captions]
    assert spanish == [("", "El niño"), ("El", " niño come"), ("El niño corre", "")]
    english = [(c.translation.committed, c.translation.tail) for c in captions]
    assert english == [("", "The boy"), ("The", " boy eats"), ("The boy runs", "")]


def test_loops_are_cut(stage, monkeypatch):
    looped = "El perro" + " duerme y" * 30 + "\nEnglish: The dog" + " the" * 40
    captions, _ = scripted(stage, monkeypatch, segment([30]), looped)
    assert captions[0].transcript.whole == "El perro duerme y"
    assert captions[0].guards == (Flag.REPETITION,)


@pytest.mark.parametrize(
    ("answer", "transcript", "translation"),
    [
        ("El perro duerme English: The dog", "El perro duerme", "The dog"),
        ("El perro. **English:** The dog.", "El perro.", "The dog."),
        ("El perro. English translation: The dog.", "El perro.", "The dog."),
        ("### Spanish\n\nEl perro.\n\n### English\n\nThe dog.", "El perro.", "The dog."),
        ("\nEl perro.\nEnglish: The dog.", "El perro.", "The dog."),
        ("- ¿Dónde?\n- En el sur.\nEnglish: - Where?", "- ¿Dónde? - En el sur.", "- Where?"),
        ("El perro.\n\nUn libro.\nEnglish: The dog.\n\nA book.", "El perro. Un libro.", None),
        ("```\nEl perro.\n```\nEnglish: The dog.", "El perro.", "The dog."),
    ],
)
def test_a_transcript_ends_where_the_label_of_its_translation_begins(
    stage, monkeypatch, answer, transcript, translation
):
    """In any form; newlines within the texts are spaces."""
    captions, _ = scripted(stage, monkeypatch, segment([8]), answer)
    assert captions[0].transcript.whole == transcript
    assert captions[0].translation.whole == (translation or "The dog. A book.")


def test_a_refusal_is_counted_and_not_shown(stage, monkeypatch, caplog):
    refusal = "I can't process that request. Please provide the audio."
    captions, states = scripted(stage, monkeypatch, segment([9, 9]), refusal, refusal)
    (only,) = captions
    assert (only.kind, only.segment, only.guards) == ("final", 1, (Flag.REFUSAL,))
    assert only.transcript.whole == only.translation.whole == ""
    assert "segment 1: the model gave a refusal, which is not shown" in caplog.text
    captions, states = scripted(
        stage, monkeypatch, segment([9, 9]), refusal, "El perro.\nEnglish: The dog."
    )
    assert [c.transcript.whole for c in captions] == ["El perro."], "nothing of it was committed"
    assert captions[-1].guards == ()


WRONG = "The dog sleeps in the garden and the cat is here.\nEnglish: The dog sleeps."
RIGHT = "El perro duerme en el jardín.\nEnglish: The dog sleeps in the garden."


BOTH = "El perro duerme.\n\nThe dog sleeps in the garden and the cat is here."


@pytest.mark.parametrize("wrong", [WRONG, BOTH])
def test_an_answer_in_the_wrong_language_is_asked_for_in_the_longer_wording(
    stage, monkeypatch, caplog, wrong
):
    """So is one that has both languages and no label between them."""
    captions, states = scripted(stage, monkeypatch, segment([9, 9]), wrong, RIGHT, RIGHT)
    assert [c.transcript.whole for c in captions] == ["El perro duerme en el jardín."] * 2
    assert captions[-1].guards == (Flag.WRONG_LANGUAGE,) and states[-1].style == "long"
    assert "segment 1: the answer was in the wrong language" in caplog.text


def test_it_is_asked_for_once_and_then_taken(stage, monkeypatch):
    captions, _ = scripted(stage, monkeypatch, segment([9, 9]), WRONG, WRONG, WRONG)
    assert captions[-1].transcript.whole.startswith("The dog sleeps in the garden")
    assert captions[-1].guards == (Flag.WRONG_LANGUAGE,)


def test_what_was_promised_is_not_asked_for_again(stage, monkeypatch):
    short = "The dog sleeps\nEnglish: The dog"
    captions, _ = scripted(stage, monkeypatch, segment([9, 9, 9]), short, short, WRONG)
    assert captions[1].transcript.committed == "The dog"
    assert captions[-1].transcript.whole == "The dog sleeps in the garden and the cat is here."
    assert captions[-1].guards == ()


@pytest.mark.parametrize("sizes", [{}, {"draft_size": "half"}])
def test_asked_again_it_is_as_if_it_had_been_asked_so_from_the_first(stage, monkeypatch, sizes):
    items = segment([2, 1, 3], seed=7)
    expected, _ = run(stage, items, replace(OPTIONS, prompt_style="long", **sizes))
    monkeypatch.setattr(spoken.Reader, "in_wrong_language", lambda *_: True)
    captions, states = run(stage, [*items, *segment([2])], replace(OPTIONS, **sizes))
    assert texts(captions[:3]) == texts(expected)
    before = prompts.build(stage.tokenizer, "es", "en", style="long").before
    assert states[2].cache.length == states[2].heard == len(before) + 6
    finals = [c for c in captions if c.kind == "final"]
    assert [Flag.WRONG_LANGUAGE in c.guards for c in finals] == [True, True]


def test_what_was_shown_as_committed_stays_whatever_the_rest_becomes():
    letters: Any = Letters()
    reader = spoken.Reader(letters, "es", "en")
    first = reader.text(ids("Spanish perro"), 7, "", Part.TRANSCRIPT)
    assert (first.committed, first.tail) == ("Spanish", " perro")
    later = reader.text(ids("Spanish: perro"), 7, first.committed, Part.TRANSCRIPT)
    assert later.committed == "Spanish" and later.whole == "Spanish perro"
    unsure = reader.text(ids("Spanish: perro"), 7, "", Part.TRANSCRIPT)
    assert (unsure.committed, unsure.tail) == ("", "perro")


def ids(text: str) -> list[int]:
    return list(map(ord, text))


class Letters:
    """Ids that are characters."""

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


def test_what_is_committed_stays_even_where_it_is_a_loop(stage):
    cache_state: TranslateState = stage.init_state(OPTIONS)
    items = segment([2, 2, 2])
    _, cache_state = stage.step(items[0], cache_state)
    loop = stage.tokenizer.encode(" el") * 13
    cache_state.transcript.ids, cache_state.transcript.committed = list(loop), len(loop)
    cache_state.transcript.chances = [0.5] * len(loop)
    (caption,), after = stage.step(items[1], cache_state)
    assert after.transcript.ids[: len(loop)] == loop
    assert caption.transcript.committed.startswith("el" + " el" * 12)
    assert after.cache.length == after.heard
