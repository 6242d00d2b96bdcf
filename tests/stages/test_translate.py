"""Over random weights: they talk without end, so every bound and promise is put to the test."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.translate
from decoder.drafts import Lookahead
from models import prompt as prompts
from models.checkpoint import Checkpoint
from models.prompt import LanguageError
from stages.commit import without_loop
from stages.contract import StageHost
from stages.messages import CHUNK_SAMPLES, Caption, SessionOptions, SoftTokens
from stages.translate import TranslateStage, TranslateState
from tests import nano_like
from tests.stages.helpers import together

OPTIONS = SessionOptions(update_chunks=1, max_answer_tokens=16)
NEVER_EARLY = replace(OPTIONS, update_chunks=10_000)
SEEDS = (2, 7, 10, 14)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Stages of several random models, each made once."""

    @lru_cache
    def made(seed: int) -> TranslateStage:
        return TranslateStage.load(str(nano_like.make(tmp_path_factory.mktemp("seed"), seed)))

    return made


@pytest.fixture(scope="module")
def stage(make) -> TranslateStage:
    return make(7)


def segment(pieces: list[int], seed: int = 0, updates: list[bool] | None = None):
    """A segment of the given numbers of soft tokens, which stay alike as those of speech do."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(1, 32, generator=generator) + 0.4 * torch.randn(
        sum(pieces), 32, generator=generator
    )
    items, heard = [], 0
    for i, count in enumerate(pieces):
        items.append(
            SoftTokens(
                segment=1,
                start=0,
                end=(heard + count) * CHUNK_SAMPLES,
                tokens=tokens[heard : heard + count],
                opens=i == 0,
                closes=i == len(pieces) - 1,
                update=updates[i] if updates else True,
            )
        )
        heard += count
    return items


def run(stage: TranslateStage, items: list[SoftTokens], options: SessionOptions = OPTIONS):
    """All captions, and the state after each item."""
    state, captions, states = stage.init_state(options), [], []
    for item in items:
        out, state = stage.step(item, state)
        captions += out
        states.append(replace(state))  # texts are replaced by an update, not changed
    assert stage.flush(state) == []
    return captions, states


def texts(captions: list[Caption]) -> list[tuple]:
    return [(c.kind, c.end, c.transcript, c.translation) for c in captions]


class WithoutGuesses(Lookahead):
    def after(self, answer, guess=()):
        return super().after(answer)


class ToTheEnd(Lookahead):
    def text(self, *, halt, **asked):
        return super().text(**asked)


PIECES = st.lists(st.integers(0, 3), min_size=2, max_size=7)


@settings(max_examples=12, deadline=None)
@given(pieces=PIECES, seed=st.sampled_from(SEEDS), pad=st.booleans())
def test_fed_in_pieces_equals_the_whole_segment_at_once(make, pieces, seed, pad):
    stage, items, options = make(seed), segment(pieces), replace(NEVER_EARLY, pad_audio=pad)
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
    monkeypatch.setattr(stages.translate, "without_loop", cut)
    checkpoint = Checkpoint.open(str(tiny_folder))
    model, tokenizer = checkpoint.language_model(), checkpoint.tokenizer
    prompt = prompts.build(tokenizer, "es", "en")
    items = segment([1, 2, 3, 2])
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
            if int(logits.argmax()) in (*prompt.newlines, *prompt.stop):
                break
            answer.append(int(logits.argmax()))
        assert found == cut(answer)
        assert len(set(found)) > 2
        ids += [*found, *prompt.separator]


@settings(max_examples=25, deadline=None)
@given(
    pieces=PIECES, seed=st.sampled_from(SEEDS), sound=st.integers(0, 99), every=st.integers(1, 3)
)
def test_committed_text_is_append_only(make, pieces, seed, sound, every):
    stage = make(seed)
    captions, states = run(stage, segment(pieces, sound), replace(OPTIONS, update_chunks=every))
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


@settings(max_examples=12, deadline=None)
@given(pieces=PIECES, seed=st.sampled_from(SEEDS), sound=st.integers(0, 99), pad=st.booleans())
def test_drafts_never_change_the_result(make, pieces, seed, sound, pad):
    stage, items, options = make(seed), segment(pieces, sound), replace(OPTIONS, pad_audio=pad)
    drafted, _ = run(stage, items, options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages.translate, "Lookahead", WithoutGuesses)
        plain, _ = run(stage, items, options)
    assert texts(drafted) == texts(plain)


@settings(max_examples=12, deadline=None)
@given(
    pieces=PIECES, seed=st.sampled_from(SEEDS), every=st.sampled_from((1, 3, 99)), data=st.data()
)
def test_how_many_tokens_wait_never_changes_the_result(make, pieces, seed, every, data):
    updates = data.draw(st.lists(st.booleans(), min_size=len(pieces), max_size=len(pieces)))
    stage, items = make(seed), segment(pieces, seed, updates)
    options, said = replace(OPTIONS, update_chunks=every), []
    for most in (1, 2, 8):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stages.translate, "MOST_WAITING", most)
            said.append(texts(run(stage, items, options)[0]))
    assert said[0] == said[1] == said[2]


@pytest.fixture
def entered(stage, monkeypatch) -> list[tuple[int, int]]:
    """How many positions each pass put into a cache, and how many of them it answered."""
    passes, answer = [], stage._model.answer

    def spy(embeddings, ids, cache, wanted):
        passes.append((ids.shape[1], wanted))
        return answer(embeddings, ids, cache, wanted)

    monkeypatch.setattr(stage._model, "answer", spy)
    return passes


def test_audio_goes_along_with_the_pass_that_asks(stage, entered):
    items = segment([3] + [1] * 9)
    _, states = run(stage, items, replace(OPTIONS, update_chunks=4))
    assert all(answered for _, answered in entered)
    assert [sum(map(len, state.fresh)) for state in states] == [3, 0, 1, 2, 3, 0, 1, 2, 3, 0]


def test_audio_does_not_wait_for_ever(stage, entered):
    _, states = run(stage, segment([1] * 20 + [0]), NEVER_EARLY)
    asked = entered.index((4 + len(states[0].prompt.after), 1))
    assert entered[:asked] == [(8, 0), (8, 0)]
    assert max(sum(map(len, state.fresh)) for state in states) == 7


def test_a_prompt_is_read_before_anyone_speaks_and_once(make, monkeypatch):
    """In whatever session it is met first."""
    stage, read = make(2), []
    stage._instruction.cache_clear()
    extend = stage._model.extend

    def spy(embeddings, ids, cache):
        read.append(ids[0].tolist())
        return extend(embeddings, ids, cache)

    monkeypatch.setattr(stage._model, "extend", spy)
    french = replace(OPTIONS, language="fr")
    prompts_read = [list(stage.init_state(each).prompt.before) for each in (OPTIONS, french)]
    assert read == prompts_read
    first = texts(run(stage, segment([2, 1]))[0])
    assert first == texts(run(stage, segment([2, 1]))[0]), "what is kept stays as it is"
    assert len(read) == 2


@pytest.mark.parametrize("heard, missing", [(2, 186), (187, 1), (188, 0), (190, 0)])
def test_audio_is_filled_up_on_request(stage, heard, missing):
    """Behind the audio, in front of what ends it; never in what is kept."""
    rows = {}
    for pad in (False, True):
        state = stage.init_state(replace(NEVER_EARLY, pad_audio=pad))
        _, state = stage.step(replace(segment([heard, 1])[0], closes=False), state)
        rows[pad] = [part[0] for part in stage._suffix(state)]
        _, state = stage.step(segment([0, 0])[1], state)
        assert state.cache.length == state.heard == len(state.prompt.before) + heard
    (plain, plain_ids), (filled, ids) = rows[False], rows[True]
    assert ids.tolist() == [457] * missing + plain_ids.tolist()
    hard = stage._embedder.hard(torch.tensor([463]))  # the last of the vocabulary
    torch.testing.assert_close(filled, torch.cat([hard.expand(missing, -1), plain]))


def passes(stage, monkeypatch, kind: type[Lookahead], items, options=OPTIONS) -> list[int]:
    """How often the model ran for each update of ``items``."""
    made = []

    class Counted(kind):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(stages.translate, "Lookahead", Counted)
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
    first, again = passes(make(2), monkeypatch, Lookahead, segment([3, 0]))
    assert first == 2 * OPTIONS.max_answer_tokens and again == 1


def test_a_loop_is_not_decoded_to_its_end(make, monkeypatch):
    """Both texts of this sound end in one; the captions are those of decoding it all."""
    stage, items, options = make(7), segment([60], seed=3), replace(OPTIONS, max_answer_tokens=90)
    (few,), captions = passes(stage, monkeypatch, Lookahead, items, options), run(stage, items)[0]
    (many,), whole = passes(stage, monkeypatch, ToTheEnd, items, options), run(stage, items)[0]
    assert few < 40 and many == 2 * 90
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


def test_sessions_in_one_host_do_not_mix(stage):
    host = StageHost(stage)
    mine, other = segment([1, 2, 1], seed=1), segment([1, 2, 1], seed=2)
    host.open("a", OPTIONS)
    host.open("b", replace(OPTIONS, language="it"))
    out = []
    for seq, (a, b) in enumerate(zip(mine, other, strict=True)):
        out += host.step("a", seq, [a])
        host.step("b", seq, [b])
    assert texts(out) == texts(run(stage, mine)[0])


@settings(max_examples=15, deadline=None)
@given(
    streams=st.lists(st.tuples(PIECES, st.integers(0, 99)), min_size=2, max_size=5),
    seed=st.sampled_from(SEEDS),
    every=st.integers(1, 2),
)
def test_many_streams_together_say_what_each_says_alone(make, streams, seed, every):
    """Each at another place of its segment, in another language, and with as many passes."""
    stage = make(seed)
    items = [segment(pieces, sound) for pieces, sound in streams]
    options = [
        replace(OPTIONS, update_chunks=every, language=language, pad_audio=language == "fr")
        for language, _ in zip(("es", "fr", "it", "pt", "es"), streams, strict=False)
    ]
    found = together(stage, items, options)
    for mine, stream, each in zip(found, items, options, strict=True):
        assert texts(mine) == texts(run(stage, stream, each)[0])


def test_streams_share_their_passes(stage, monkeypatch):
    sizes = []
    answer_together = stage._model.answer_together

    def counted(requests):
        sizes.append(len(requests))
        return answer_together(requests)

    monkeypatch.setattr(stage._model, "answer_together", counted)
    together(stage, [segment([1] * 6, sound) for sound in range(4)], [OPTIONS] * 4)
    assert sizes[0] == 4 and sum(size == 4 for size in sizes) > 12


@pytest.mark.parametrize("large", [True, False])
def test_what_large_logits_took_goes_back_after_each_update(stage, monkeypatch, large):
    trims, size = [], stage._model.config.vocab_size
    monkeypatch.setattr(stages.translate, "LARGE_VOCABULARY", size + (not large))
    monkeypatch.setattr(stages.translate.resident, "trim", lambda: trims.append(1))
    items = segment([1] * 6)
    state, seen = stage.init_state(replace(OPTIONS, update_chunks=3)), []
    for item in items:
        _, state = stage.step(item, state)
        seen.append(len(trims))
    assert seen == ([0, 0, 1, 1, 1, 2] if large else [0] * 6)
    together(stage, [items, items], [replace(OPTIONS, update_chunks=6)] * 2)
    assert len(trims) == (3 if large else 0)


def test_a_prompt_is_encoded_once_for_a_pair_of_languages(make, monkeypatch):
    stage, built, build = make(2), [], prompts.build
    stage._prompt.cache_clear()

    def counted(*args):
        built.append(args[1:])
        return build(*args)

    monkeypatch.setattr(prompts, "build", counted)
    read = stage._tokenizer._read
    monkeypatch.setattr(stage._tokenizer, "_read", lambda: built.append("read") or read())
    for language in ("es", "es", "fr", "es"):
        run(stage, segment([1, 1]), replace(OPTIONS, language=language))
    pairs = [found for found in built if found != "read"]
    assert [pair[0] for pair in pairs] == ["es", "fr"]
    assert built.count("read") <= 2
    assert stage._tokenizer._whole is None


def test_a_stream_that_fails_in_company_fails_alone(stage):
    good, late = segment([2, 1], seed=1), segment([1, 1])[1]
    state = stage.init_state(OPTIONS)
    (first, refused) = stage.step_batch([good[0], late], [state, stage.init_state(OPTIONS)])
    assert isinstance(refused, ValueError) and "not open" in str(refused)
    out, _ = stage.step(good[1], first[1])
    assert texts([*first[0], *out]) == texts(run(stage, good)[0])


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


def scripted(stage, monkeypatch, items, *answers: str) -> tuple[list[Caption], int]:
    """Captions where the model gives these answers in turn, and how many it was asked for."""
    script = [stage._tokenizer.encode(answer) for answer in answers]

    class Scripted(Lookahead):
        """Says what it is told."""

        def text(self, *, forced, max_tokens, **rest):
            yield from ()
            return [*forced, *script.pop(0)[len(forced) :]][:max_tokens]

    monkeypatch.setattr(stages.translate, "Lookahead", Scripted)
    captions, _ = run(stage, items, replace(OPTIONS, max_answer_tokens=200))
    return captions, len(answers) - len(script)


@pytest.mark.parametrize("nothing", ["", " ", ".", "<bos>", "¿?"])
def test_a_segment_without_words_gives_no_caption(stage, monkeypatch, nothing):
    captions, asked = scripted(stage, monkeypatch, segment([1, 1, 1]), *[nothing] * 3)
    assert captions == []
    assert asked == 3, "nothing is translated where nothing was said"


def test_words_that_turn_out_to_be_noise_are_taken_back(stage, monkeypatch):
    captions, _ = scripted(stage, monkeypatch, segment([1, 1]), "El", " The", "")
    assert [c.transcript.whole for c in captions] == ["El", ""]
    assert [c.translation.whole for c in captions] == ["The", ""]
    assert captions[-1].kind == "final"


def test_words_are_committed_once_two_updates_agree(stage, monkeypatch):
    captions, _ = scripted(
        stage,
        monkeypatch,
        segment([1, 1, 1]),
        *("El niño", " The boy"),
        *("El niño come", " The boy eats"),
        *("El niño corre", " The boy runs"),
    )
    spanish = [(c.transcript.committed, c.transcript.tail) for c in captions]
    assert spanish == [("", "El niño"), ("El", " niño come"), ("El niño corre", "")]
    english = [(c.translation.committed, c.translation.tail) for c in captions]
    assert english == [("", "The boy"), ("The", " boy eats"), ("The boy runs", "")]


def test_loops_are_cut(stage, monkeypatch):
    looped = "El perro" + " duerme y" * 30
    captions, _ = scripted(stage, monkeypatch, segment([30]), looped, " The dog" + " the" * 40)
    assert captions[0].transcript.whole == "El perro duerme y"
    assert captions[0].translation.whole == "The dog the"


def test_a_transcript_that_runs_on_into_its_translation_is_cut(stage, monkeypatch):
    said = "El perro duerme English: The dog sleeps"
    captions, _ = scripted(stage, monkeypatch, segment([3]), said, " The dog sleeps")
    assert captions[0].transcript.whole == "El perro duerme"
    assert captions[0].translation.whole == "The dog sleeps"


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


def test_what_is_committed_stays_even_where_it_is_a_loop(stage):
    cache_state: TranslateState = stage.init_state(OPTIONS)
    items = segment([2, 2, 2])
    _, cache_state = stage.step(items[0], cache_state)
    loop = stage._tokenizer.encode(" el") * 13
    cache_state.transcript.ids, cache_state.transcript.committed = list(loop), len(loop)
    (caption,), after = stage.step(items[1], cache_state)
    assert after.transcript.ids[: len(loop)] == loop
    assert caption.transcript.committed.startswith("el" + " el" * 12)
    assert after.cache.length == after.heard
