import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.tokenizer import Tokenizer, TokenizerError
from tests.nano_like import SENTENCES, TEXT_VOCAB
from training import tokenizer as tokenizers

WORDS = sorted({word for sentence in SENTENCES for word in sentence.split()})
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁<"), max_size=30)


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return Tokenizer.from_file(tiny_folder / "tokenizer.json")


@pytest.mark.parametrize(
    "text",
    [
        *SENTENCES,
        "",
        " ",
        "  two  spaces ",
        "a\nb\n\nc",
        "pingüino Ñandú coração",
        "東京 Жук 🙂",
        "\t",
    ],
)
def test_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=TEXTS)
def test_any_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_unknown_characters_become_their_bytes(tokenizer):
    ids = tokenizer.encode("東")
    assert ids == [tokenizer.special(f"<0x{byte:02X}>") for byte in "東".encode()]
    assert not any(tokenizer.begins_word(token) for token in ids)


@given(words=st.lists(st.sampled_from([*WORDS, "東京", "¡ñ!", "\n"])), data=st.data())
def test_the_text_of_parts_joined_is_the_text(tokenizer, words, data):
    ids = tokenizer.encode(" ".join(words))
    borders = [i for i in range(1, len(ids)) if tokenizer.begins_word(ids[i])]
    cut = data.draw(st.sampled_from([0, *borders, len(ids)]))
    assert tokenizer.decode(ids[:cut]) + tokenizer.decode(ids[cut:]) == tokenizer.decode(ids)


@given(words=st.lists(st.sampled_from([*WORDS, "desconocido", "東京"]), min_size=1), data=st.data())
def test_the_first_words_ids_are_the_first_ids(tokenizer, words, data):
    first = words[: data.draw(st.integers(1, len(words)))]
    ids = tokenizer.encode(" ".join(first))
    assert tokenizer.encode(" ".join(words))[: len(ids)] == ids


def test_words_begin_at_spaces_and_punctuation(tokenizer):
    ids = tokenizer.encode("Mañana lloverá, en 東.")
    begins = [tokenizer.decode([t]) for t in ids if tokenizer.begins_word(t)]
    assert begins[0].startswith(" l") and "," in begins and begins[-1] == "."
    assert "Mañana" not in begins


def test_a_combining_accent_belongs_to_the_word():
    from tokenizers import Tokenizer as Plain
    from tokenizers.models import WordLevel

    tokenizer = Tokenizer(Plain(WordLevel({"e": 0, "\u0301": 1, "▁e": 2, "'": 3}, unk_token="e")))
    assert [tokenizer.begins_word(i) for i in range(5)] == [False, False, True, True, True]


def test_specials_are_single_ids_and_have_no_text(tokenizer):
    names = [*tokenizers.CONTROLS, *tokenizers.IMAGE_ROWS, *tokenizers.AUDIO_ROWS]
    for name in names:
        assert tokenizer.encode(name) == [tokenizer.special(name)]
        assert tokenizer.decode([tokenizer.special(name)]) == ""
    # The order of the official vocabulary: text, then image, then audio rows.
    assert [tokenizer.special(n) for n in tokenizers.CONTROLS] == list(range(8))
    rows = TEXT_VOCAB + tokenizers.SOFT_ROWS
    assert tokenizer.special("<end_of_image>") == TEXT_VOCAB
    assert tokenizer.special("<end_of_audio>") == rows
    assert tokenizer.vocab_size == rows + tokenizers.SOFT_ROWS


def test_no_piece_is_spent_on_a_special_token_written_out(tiny_folder):
    model = json.loads((tiny_folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    learnt = list(model["vocab"])[len(tokenizers.CONTROLS) + 256 :]
    assert "English" in learnt
    assert not [piece for piece in learnt if set(piece) & set("<>_")]


def test_errors(tokenizer, tmp_path):
    with pytest.raises(TokenizerError, match="no <nonsense>.*same place as the weights"):
        tokenizer.special("<nonsense>")
    with pytest.raises(TokenizerError, match=r"no tokenizer at .*tokenizer\.json"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match="not a readable"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")


def test_a_vocabulary_too_small_is_refused(tmp_path):
    with pytest.raises(ValueError, match="vocabulary of 200 is too small"):
        tokenizers.train(SENTENCES, 200, tmp_path / "tokenizer.json")
