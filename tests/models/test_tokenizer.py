import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Plain
from tokenizers.models import WordLevel

from benchmarks import vocabulary
from dragoman.errors import TokenizerError
from dragoman.models.tokenizer import Tokenizer
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
    pieces = WordLevel({"e": 0, "\u0301": 1, "▁e": 2, "'": 3}, unk_token="e")
    tokenizer = Tokenizer(lambda: Plain(pieces))
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


@pytest.fixture(scope="module", params=["nano", "random"])
def plain(request, tiny_folder, tmp_path_factory):
    """The library's tokenizers of the bundled model's form, and of our random checkpoints'."""
    path = tiny_folder / "tokenizer.json"
    if request.param == "random":
        path = tmp_path_factory.mktemp("random") / "tokenizer.json"
        vocabulary.write(path, vocabulary.Layout(2000, 8))
    return Plain.from_file(str(path))


def test_every_id_decodes_as_in_the_library(plain):
    tokenizer = Tokenizer(lambda: plain)
    count = plain.get_vocab_size()
    for i in range(count + 2):
        assert tokenizer.decode([i]) == plain.decode([i], skip_special_tokens=True)
    whole = list(range(count))
    assert tokenizer.decode(whole) == plain.decode(whole, skip_special_tokens=True)


@given(data=st.data())
def test_ids_decode_as_in_the_library(plain, data):
    tokenizer = Tokenizer(lambda: plain)
    some = st.integers(0, plain.get_vocab_size() + 1)
    byte = st.sampled_from([plain.token_to_id(f"<0x{value:02X}>") for value in range(256)])
    ids = data.draw(st.lists(some | byte))
    assert tokenizer.decode(ids) == plain.decode(ids, skip_special_tokens=True)


def test_ids_with_gaps_decode_as_in_the_library():
    plain = Plain(WordLevel({"a": 0, "b": 7, "c": 9000}, unk_token="a"))
    plain.add_special_tokens(["<x>"])
    plain.add_tokens(["zz"])
    ids = [*range(12), 8999, 9000, 9001]
    tokenizer = Tokenizer(lambda: plain)
    assert tokenizer.decode(ids) == plain.decode(ids, skip_special_tokens=True) == "a zz b c"


def test_a_rest_changes_nothing(tiny_folder):
    path = tiny_folder / "tokenizer.json"
    awake, read = Tokenizer.from_file(path), []
    tokenizer = Tokenizer(lambda: read.append(path) or Plain.from_file(str(path)))
    ids = tokenizer.encode(SENTENCES[0])
    end = tokenizer.special("<end_of_turn>")
    tokenizer.rest()
    assert tokenizer.decode([*ids, end]) == SENTENCES[0]
    assert list(map(tokenizer.begins_word, ids)) == list(map(awake.begins_word, ids))
    assert tokenizer.special("<end_of_turn>") == end
    assert len(read) == 1, "none of this needs the library"
    assert tokenizer.encode(SENTENCES[1]) == awake.encode(SENTENCES[1])
    assert len(read) == 2
    assert tokenizer.vocab_size == awake.vocab_size


def test_a_rest_frees_the_library(tiny_folder):
    plain = Plain.from_file(str(tiny_folder / "tokenizer.json"))
    held = [plain]
    tokenizer = Tokenizer(held.pop)
    before = sys.getrefcount(plain)
    tokenizer.rest()
    assert sys.getrefcount(plain) == before - 1


def test_words_begin_without_spaces_where_a_script_has_none():
    pieces = ["<unk>", "今日", "は", "ーク", "ไป", "า", "่", "▁GPU", "GPU", "、", "မ", "န်", "가"]
    plain = Plain(WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer = Tokenizer(lambda: plain)
    begins = [piece for i, piece in enumerate(pieces) if tokenizer.begins_word(i)]
    assert begins == ["<unk>", "今日", "は", "ไป", "▁GPU", "、", "မ"]


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
