"""When the translate stage asks the model, what it shows it, and how often the model runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.decoder.speculation import Lookahead
from dragoman.models import prompt as prompts
from dragoman.models.checkpoint import Checkpoint
from dragoman.stages import translate as translate_stage
from dragoman.stages.messages import CHUNK_SAMPLES
from dragoman.stages.translate import TranslateStage
from tests.stages.segments import BRIEF, NEVER_EARLY, OPTIONS, PIECES, SEEDS, run, segment, texts


class WithoutGuesses(Lookahead):
    def after(self, answer, guess=(), judged=0):
        return super().after(answer, judged=judged)


class ToTheEnd(Lookahead):
    def text(self, *, halt, **asked):
        return super().text(**asked)


@settings(max_examples=12, deadline=None)
@given(pieces=PIECES, seed=st.sampled_from(SEEDS), sound=st.integers(0, 99), pad=st.booleans())
def test_drafts_never_change_the_result(make, pieces, seed, sound, pad):
    stage, items, options = make(seed), segment(pieces, sound), replace(BRIEF, pad_audio=pad)
    drafted, _ = run(stage, items, options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translate_stage, "Lookahead", WithoutGuesses)
        plain, _ = run(stage, items, options)
    assert texts(drafted) == texts(plain)


@settings(max_examples=12, deadline=None)
@given(
    pieces=PIECES, seed=st.sampled_from(SEEDS), every=st.sampled_from((1, 3, 99)), data=st.data()
)
def test_how_many_tokens_wait_never_changes_the_result(make, pieces, seed, every, data):
    updates = data.draw(st.lists(st.booleans(), min_size=len(pieces), max_size=len(pieces)))
    stage, items = make(seed), segment(pieces, seed, updates)
    options, said = replace(BRIEF, update_chunks=every), []
    for most in (1, 2, 8):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(translate_stage, "MOST_WAITING", most)
            said.append(texts(run(stage, items, options)[0]))
    assert said[0] == said[1] == said[2]


@pytest.fixture
def entered(stage, monkeypatch) -> list[tuple[int, int]]:
    """How many positions each pass put into a cache, and how many of them it answered."""
    passes, answer = [], stage.model.answer

    def spy(embeddings, ids, cache, wanted):
        passes.append((ids.shape[1], wanted))
        return answer(embeddings, ids, cache, wanted)

    monkeypatch.setattr(stage.model, "answer", spy)
    return passes


def test_audio_goes_along_with_the_pass_that_asks(stage, entered):
    items = segment([3] + [1] * 9)
    _, states = run(stage, items, replace(OPTIONS, update_chunks=4))
    assert all(answered for _, answered in entered)
    assert [sum(map(len, state.fresh)) for state in states] == [3, 0, 1, 2, 3, 0, 1, 2, 3, 0]


def test_audio_does_not_wait_for_ever(stage, entered):
    _, states = run(stage, segment([1] * 20 + [0]), NEVER_EARLY)
    prompt = states[0].prompt
    label = len(prompt.separator)  # guessed where nothing was said as yet
    asked = entered.index((4 + len(prompt.after) + label, 1 + label))
    assert entered[:asked] == [(8, 0), (8, 0)]
    assert max(sum(map(len, state.fresh)) for state in states) == 7


def test_a_prompt_is_read_before_anyone_speaks_and_once(make, monkeypatch):
    """In whatever session it is met first."""
    stage, read = make(2), []
    stage.context.instruction.cache_clear()
    extend = stage.model.extend

    def spy(embeddings, ids, cache):
        read.append(ids[0].tolist())
        return extend(embeddings, ids, cache)

    monkeypatch.setattr(stage.model, "extend", spy)
    french = replace(OPTIONS, language="fr")
    prompts_read = [list(stage.init_state(each).prompt.before) for each in (OPTIONS, french)]
    assert read == prompts_read
    first = texts(run(stage, segment([2, 1]))[0])
    assert first == texts(run(stage, segment([2, 1]))[0]), "what is kept stays as it is"
    assert len(read) == 2


@pytest.mark.parametrize("heard, missing", [(2, 186), (187, 1), (188, 0), (190, 0)])
def test_audio_is_filled_up_on_request(stage, monkeypatch, heard, missing):
    """Behind the audio, in front of what ends it; never in what is kept."""
    rows, asked, question = {}, [], stage.context.question
    monkeypatch.setattr(
        stage.context, "question", lambda *given: asked.append(question(*given)) or asked[-1]
    )
    for pad in (False, True):
        state = stage.init_state(replace(NEVER_EARLY, pad_audio=pad))
        _, state = stage.step(replace(segment([heard, 1])[0], update=False), state)
        waiting = sum(map(len, state.fresh))
        _, state = stage.step(segment([0, 0])[1], state)
        rows[pad] = [part[0, waiting:] for part in asked[-1]]
        assert state.cache.length == state.heard == len(state.prompt.before) + heard
    (plain, plain_ids), (filled, ids) = rows[False], rows[True]
    assert ids.tolist() == [457] * missing + plain_ids.tolist()
    hard = stage.embedder.hard(torch.tensor([463]))  # the last of the vocabulary
    torch.testing.assert_close(filled, torch.cat([hard.expand(missing, -1), plain]))


def passes(stage, monkeypatch, kind: type[Lookahead], items, options=OPTIONS) -> list[int]:
    """How often the model ran for each update of ``items``."""
    made = []

    class Counted(kind):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(translate_stage, "Lookahead", Counted)
    run(stage, items, options)
    return [ahead.passes for ahead in made]


def test_drafts_save_passes(stage, monkeypatch):
    items = segment([1] * 12)
    plain = passes(stage, monkeypatch, WithoutGuesses, items)
    drafted = passes(stage, monkeypatch, Lookahead, items)
    assert len(plain) == len(drafted) == 12
    assert sum(drafted) < sum(plain) - 10


def test_an_answer_that_stays_takes_one_pass(make, monkeypatch):
    """Transcript and translation together."""
    first, again = passes(make(2), monkeypatch, Lookahead, segment([3, 0], seed=1))
    assert first == 2 * OPTIONS.max_answer_tokens and again == 1


def test_a_loop_is_not_decoded_to_its_end(make, monkeypatch):
    """Both texts of this sound end in one; the captions are those of decoding it all."""
    stage, items, options = make(7), segment([60], seed=1), replace(OPTIONS, max_answer_tokens=90)
    (few,), captions = passes(stage, monkeypatch, Lookahead, items, options), run(stage, items)[0]
    (many,), whole = passes(stage, monkeypatch, ToTheEnd, items, options), run(stage, items)[0]
    assert few < 40 and many > 3 * few
    assert texts(captions) == texts(whole)


def test_the_cache_is_cut_back_to_the_audio(stage):
    pieces = [1, 0, 2, 1, 3, 1]
    _, states = run(stage, segment(pieces))
    prompt, heard = len(states[0].prompt.before), 0
    for count, state in zip(pieces, states, strict=True):
        heard += count
        assert state.heard == prompt + heard
    assert states[-1].cache.length == states[-1].heard


def test_updates_come_every_so_many_chunks(stage):
    options = replace(OPTIONS, update_chunks=3)
    captions, _ = run(stage, segment([1] * 8), options)
    assert [c.end // CHUNK_SAMPLES for c in captions] == [3, 6, 8]
    captions, _ = run(stage, segment([4, 1, 1, 1]), options)
    assert [c.end // CHUNK_SAMPLES for c in captions] == [4, 7]


def test_a_lagging_session_only_skips_captions(stage):
    updates = [True, False, False, True, False, False]
    captions, states = run(stage, segment([1] * 6, updates=updates))
    assert [c.end // CHUNK_SAMPLES for c in captions] == [1, 4, 6]  # the final always comes
    assert [state.heard for state in states] == [states[0].heard + i for i in range(6)]
    # As if the pieces between had come together.
    assert texts(captions) == texts(run(stage, segment([1, 3, 2]))[0])


@pytest.mark.parametrize("large", [True, False])
def test_a_large_vocabulary_asks_for_memory_to_be_given_back(tiny_folder, monkeypatch, large):
    """Its host does it (`pipeline.runner`)."""
    size = Checkpoint.open(str(tiny_folder)).text_config.vocab_size
    monkeypatch.setattr(translate_stage, "LARGE_VOCABULARY", size + (not large))
    assert TranslateStage.load(str(tiny_folder)).leaves_holes is large


def test_a_prompt_is_encoded_once_for_a_pair_of_languages(make, monkeypatch):
    stage, built, build = make(2), [], prompts.build
    stage.context.prompt.cache_clear()

    def counted(*args):
        built.append(args[1:])
        return build(*args)

    monkeypatch.setattr(prompts, "build", counted)
    read = stage.tokenizer._read
    monkeypatch.setattr(stage.tokenizer, "_read", lambda: built.append("read") or read())
    for language in ("es", "es", "fr", "es"):
        run(stage, segment([1, 1]), replace(OPTIONS, language=language))
    pairs = [found for found in built if found != "read"]
    assert [pair[0] for pair in pairs] == ["es", "fr"]
    assert built.count("read") <= 2
    assert stage.tokenizer._whole is None


def test_audio_that_nobody_asked_about_is_heard(stage):
    """An update that may not say a word more than was promised still takes its audio in."""
    items = segment([2, 2, 2])
    _, state = stage.step(items[0], stage.init_state(OPTIONS))
    for text in (state.transcript, state.translation):
        text.ids, text.committed = text.ids[:2], 2
    state.options = replace(OPTIONS, max_answer_tokens=2)
    _, state = stage.step(items[1], state)
    assert [text.committed for text in (state.transcript, state.translation)] == [2, 2]
    assert state.cache.length == state.heard == len(state.prompt.before) + 4
