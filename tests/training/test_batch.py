import random
from dataclasses import replace

import pytest
import torch

from tests.encoders.helpers import sound
from training.batch import (
    CHUNK_SAMPLES,
    IGNORE,
    LETTERS,
    PADDING,
    Batcher,
    Spoken,
    heard_words,
    letters,
    sayable,
)

ENGLISH = ["", "", "The", "The dog sleeps."]  # after so many words


def spoken(samples: int = 5 * CHUNK_SAMPLES, seed: int = 0) -> Spoken:
    ends = [samples // 4, samples // 2, samples * 3 // 4]
    words = ["El", "perro", "duerme."]
    return Spoken(sound(1, samples, seed)[0], words, ends, "es", "en", ENGLISH[-1])


def test_a_word_is_heard_30_ms_after_its_end_reached_a_token():
    # A token depends on its chunk's first 1 472 samples: 3 tokens have heard 2 · 2 560 + 1 472.
    end = 2 * 2_560 + 1_472 - 480
    assert heard_words([end], 3) == 1
    assert heard_words([end + 1], 3) == 0
    assert heard_words([100, 900, end, end + 1], 3) == 3
    assert heard_words([0], 0) == heard_words([], 9) == 0


def test_what_a_token_has_not_heard_does_not_change_it(tiny_folder):
    """The 1 088 samples that `heard_words` leaves out are those of the encoder."""
    from dragoman.encoders import LogMel
    from dragoman.models.checkpoint import Checkpoint

    encoder, x = Checkpoint.open(str(tiny_folder)).audio_encoder(), sound(1, 3 * CHUNK_SAMPLES)
    changed = {}
    for unheard in (1_088, 1_089):
        other = x.clone()
        other[:, -unheard:] = 0.7
        with torch.no_grad():
            changed[unheard] = (encoder(LogMel()(other)) - encoder(LogMel()(x))).abs().max()
    assert changed[1_088] == 0 < changed[1_089]


def test_a_whole_batch(batcher, tokenizer):
    rows = [spoken(), spoken(2 * CHUNK_SAMPLES + 1, seed=1)]
    batch = batcher(rows, random.Random(0))
    assert [int(n) - whole for n, whole in zip(batch.tokens, (5, 3), strict=True)] in (
        [[a, b] for a in (0, 1) for b in (0, 1)]
    )
    assert batch.audio.shape == (2, int(batch.tokens.max()) * CHUNK_SAMPLES)
    for audio, one in zip(batch.audio, rows, strict=True):
        assert torch.equal(audio[: len(one.samples)], one.samples)
        assert not audio[len(one.samples) :].any()
    answer = batch.answers[0][batch.answers[0] != IGNORE].tolist()
    assert answer[-1] == tokenizer.special("<end_of_turn>")
    assert tokenizer.decode(answer) == "El perro duerme.\nEnglish: The dog sleeps."


def test_rows_are_padded_behind_their_end(batcher, tokenizer):
    short = Spoken(spoken().samples, ["El"], [900], "es", "en", "The")
    batch = batcher([spoken(), short], random.Random(0))
    answer = batcher.answer(("es", "en"), "El", "The")
    assert batch.answers[1].tolist() == answer + [IGNORE] * (batch.answers.shape[1] - len(answer))
    assert batch.letter_counts.tolist() == [15, 2]
    assert batch.letters[1].tolist() == [*letters("El"), *[0] * 13]


def test_cut_rows_answer_what_was_heard(tokenizer):
    batcher = Batcher(tokenizer, cut_share=1.0)
    one, seen = spoken(), set()
    for seed in range(60):
        batch = batcher([one], random.Random(seed))
        tokens = int(batch.tokens[0])
        words = heard_words(one.word_ends, tokens)
        heard = min(tokens * CHUNK_SAMPLES, len(one.samples))
        assert torch.equal(batch.audio[0, :heard], one.samples[:heard])
        spanish = ["", "El", "El perro", "El perro duerme."][words]
        english = f" {ENGLISH[words]}" if ENGLISH[words] else ""
        text = tokenizer.decode(batch.answers[0].tolist())
        assert text == f"{spanish}\nEnglish:{english}"
        assert batch.letters[0, : batch.letter_counts[0]].tolist() == letters(spanish)
        seen.add(words)
    assert seen == {0, 1, 2, 3}


def test_the_same_draws_make_the_same_batch(batcher):
    a, b = (batcher([spoken(), spoken(9_000)], random.Random(4)) for _ in range(2))
    assert a.features is b.features is None
    names = [name for name in vars(a) if name != "features"]
    assert all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", ""),
        ("Él, ¡ñu!", "él ñu"),
        ("3 €", " "),
        ("ABC xyz", "abc xyz"),
        ("L'Été, ça où?", "l'été ça où"),
        ("Zoë ČŽ", "zoë cz"),
    ],
)
def test_letters(text, expected):
    ids = letters(text)
    assert "".join(LETTERS[i - 1] for i in ids) == expected
    assert 0 not in ids  # the blank


@pytest.mark.parametrize(
    "heard, expected",
    [(0, ""), (1, ""), (2, "a"), (4, "a b c"), (7, "a b c d e f"), (8, "a b c d e f g h")],
)
def test_what_can_be_said_is_a_word_behind(heard, expected):
    assert sayable("a b c d e f g h", heard, 8) == expected


def test_an_answer_that_is_to_be_empty_is(batcher, tokenizer):
    batch = batcher(
        [replace(spoken(), language="fr", target="en", expected=False)], random.Random(0)
    )
    assert tokenizer.decode(batch.answers[0].tolist()) == "\nEnglish:"
    assert batch.letter_counts.tolist() == [15], "the encoder hears the words all the same"


def test_a_prompt_names_its_languages(batcher, tokenizer):
    rows = [spoken(), replace(spoken(), language="en", target="pt")]
    batch = batcher(rows, random.Random(0))
    for before, names in zip(
        batch.before, (("Spanish", "English"), ("English", "Portuguese")), strict=True
    ):
        ids = before[before != PADDING].tolist()
        text = tokenizer.decode(ids)
        assert "segment in {}, then translate it into {}:".format(*names) in text
        assert before[-1] == tokenizer.special("<start_of_audio>")
    assert (batch.before == PADDING).any(), "one is longer"
    answer = [i for i in batch.answers[1].tolist() if i != IGNORE]
    assert tokenizer.decode(answer).startswith("El perro duerme.\nPortuguese:")


def test_a_written_batch_has_the_translation_to_learn(batcher, tokenizer):
    texts = [
        ("es", "en", "El perro duerme.", "The dog sleeps."),
        ("en", "it", "A cat.", "Un gatto."),
    ]
    seen = set()
    for seed in range(20):
        batch = batcher.written(texts, random.Random(seed))
        assert batch.audio.shape[1] == 0 and not batch.tokens.any()
        for (_, _, text, translation), answers, targets in zip(
            texts, batch.answers, batch.targets, strict=True
        ):
            transcript, label, told = tokenizer.decode(
                answers[answers != IGNORE].tolist()
            ).partition("\n")
            assert text.startswith(transcript) and (label, transcript != text) == (
                "\n",
                transcript != text,
            )
            learnt = tokenizer.decode(targets[targets != IGNORE].tolist())
            assert learnt == "\n" + told and translation.startswith(told.partition(":")[2].strip())
            seen.add(transcript == text)
    assert seen == {False, True}
