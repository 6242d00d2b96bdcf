import pytest

from dragoman.errors import CheckpointError, LanguageError, TokenizerError, UsageError
from dragoman.models import prompt as prompts
from dragoman.models.hub import BUNDLED, read_config
from dragoman.models.prompt import check_pair, pairs_of
from dragoman.models.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return Tokenizer.from_file(tiny_folder / "tokenizer.json")


def test_the_official_text():
    before, after = prompts.prompt_text("es", "en")
    assert before == (
        "<bos><start_of_turn>user\n"
        "Transcribe the following speech segment in Spanish, then translate it into English:"
        "\n\n<start_of_audio>"
    )
    assert after == "<end_of_audio>\n\n<end_of_turn>\n<start_of_turn>model\n"
    assert "in Italian, then translate it into French:" in prompts.prompt_text("it", "fr")[0]


def test_ids_spell_the_text(tokenizer):
    prompt = prompts.build(tokenizer, "es", "en")
    special = tokenizer.special
    assert prompt.before[:2] == (special("<bos>"), special("<start_of_turn>"))
    assert prompt.before[-1] == special("<start_of_audio>")
    assert prompt.after[0] == special("<end_of_audio>")
    assert [prompt.after.count(special(t)) for t in ("<end_of_turn>", "<start_of_turn>")] == [1, 1]
    assert tokenizer.decode(list(prompt.before)) == (
        "user\nTranscribe the following speech segment in Spanish, "
        "then translate it into English:\n\n"
    )
    assert tokenizer.decode(list(prompt.after)) == "\n\n\nmodel\n"
    assert tokenizer.decode(list(prompt.separator)) == "\nEnglish:"
    assert [tokenizer.decode([i]) for i in prompt.newlines[:2]] == ["\n", "\n\n"]
    assert all(set(tokenizer.decode([i])) == {"\n"} for i in prompt.newlines)
    assert prompt.stop == (special("<end_of_turn>"), special("<eos>"))


def test_the_separator_begins_with_a_newline(tokenizer):
    prompt = prompts.build(tokenizer, "es", "pt")
    assert prompt.separator[0] in prompt.newlines
    assert prompts.label("pt") == "Portuguese:"


@pytest.mark.parametrize("pair", [("xx", "en"), ("es", "xx")])
def test_unknown_languages_are_refused(tokenizer, pair):
    with pytest.raises(LanguageError, match="unknown language 'xx'"):
        prompts.build(tokenizer, *pair)


def test_another_models_tokenizer_is_refused():
    from tokenizers import Tokenizer as Plain
    from tokenizers.models import BPE

    with pytest.raises(TokenizerError, match="no <bos>"):
        prompts.build(Tokenizer(lambda: Plain(BPE())), "es", "en")


def test_the_official_text_with_pictures():
    before, after = prompts.prompt_text("es", "en", images=2)
    image = "\n\n<start_of_image>" + 256 * "<image_soft_token>" + "<end_of_image>\n\n"
    assert before == (
        "<bos><start_of_turn>user\n"
        "Transcribe the following speech segment in Spanish, then translate it into English:"
        + image
        + image
        + "\n\n<start_of_audio>"
    )
    assert after == prompts.prompt_text("es", "en")[1]


def test_ids_with_a_picture_are_these(tokenizer):
    """Against the numbers themselves: specials first, newlines, image rows after the text."""
    newline = tokenizer.encode("\n")
    two = tokenizer.encode("\n\n")
    four = tokenizer.encode("\n\n\n\n")
    words = tokenizer.encode(
        "Transcribe the following speech segment in Spanish, then translate it into English:"
    )
    ids = prompts.build(tokenizer, "es", "en", images=1).before
    user = tokenizer.encode("user")
    assert list(ids) == [
        *[2, 4, *user, *newline, *words],
        *[*two, 6, *[449] * 256, 448, *four, 7],
    ]
    plain = prompts.build(tokenizer, "es", "en")
    assert list(plain.before) == [2, 4, *user, *newline, *words, *two, 7]
    assert prompts.build(tokenizer, "es", "en", images=1).after == plain.after


def test_a_tokenizer_without_eyes_is_refused_only_with_pictures(tokenizer, monkeypatch):
    special = Tokenizer.special

    def blind(self, token):
        if "image" in token:
            raise TokenizerError(f"no {token}")
        return special(self, token)

    monkeypatch.setattr(Tokenizer, "special", blind)
    assert prompts.build(tokenizer, "es", "en")
    with pytest.raises(TokenizerError, match="no <start_of_image>"):
        prompts.build(tokenizer, "es", "en", images=1)


def test_a_model_may_say_which_pairs_it_is_made_for(tiny_folder):
    assert pairs_of(read_config(BUNDLED / "nano")) == (("es", "en"),)
    assert ("es", "en") in pairs_of(read_config(tiny_folder))
    assert pairs_of({"model_type": "gemma3n"}) == ()


@pytest.mark.parametrize("said", ["es-en", ["es-en"], [["es"]], [["es", "xx"]], [["es", []]], {}])
def test_pairs_that_are_none_are_refused(said):
    with pytest.raises(CheckpointError, match="language_pairs in config.json is .* expected"):
        pairs_of({"language_pairs": said})


def test_a_model_without_pairs_takes_any_and_one_with_pairs_only_those():
    check_pair("de", "pt", (), "any")
    check_pair("it", "fr", (("es", "en"), ("it", "fr")), "mine")
    with pytest.raises(LanguageError, match="mine does not translate fr to it, only es to en, it"):
        check_pair("fr", "it", (("es", "en"), ("it", "fr")), "mine")
    with pytest.raises(LanguageError, match="both 'de'"):
        check_pair("de", "de", (), "any")
    with pytest.raises(LanguageError, match="unknown language 'xx'"):
        check_pair("de", "xx", (), "any")


def test_the_long_wording_says_what_the_answer_looks_like():
    before, after = prompts.prompt_text("es", "en", style="long")
    assert before == (
        "<bos><start_of_turn>user\n"
        "Transcribe the following speech segment in Spanish, then translate it into English.\n"
        "When formatting the answer, first output the transcription in Spanish, then one newline, "
        "then output the string 'English: ', then the translation in English."
        "\n\n<start_of_audio>"
    )
    assert after == prompts.prompt_text("es", "en")[1]


def test_an_instruction_of_ones_own(tokenizer, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("Write {language}; then {target_language}, {language}.\n", encoding="utf-8")
    style = prompts.style_of(str(path))
    assert prompts.instruction("fr", "pt", style) == "Write French; then Portuguese, French."
    before = prompts.build(tokenizer, "fr", "pt", style=style).before
    assert "Write French; then Portuguese, French.\n\n" in tokenizer.decode(list(before))
    assert [prompts.style_of(name) for name in ("short", "long")] == ["short", "long"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Translate {language} {target_language} {lang}", r"unknown placeholders {lang}: write"),
        ("Translate {language}", "missing placeholders {target_language}"),
        ("", "missing placeholders {language}, {target_language}"),
        ("<bos>{language} {target_language}", "special tokens.* <bos>"),
        ("{language} {target_language}" + "x" * 4000, "characters, expected at most"),
        (b"\xff", "not UTF-8"),
        (None, "No such file.*choose short, long, or a text file"),
    ],
)
def test_an_instruction_that_cannot_be_meant_is_refused(tmp_path, text, message):
    path = tmp_path / "mine.txt"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=message):
        prompts.style_of(str(path))
