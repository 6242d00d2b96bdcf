"""Our ids against transformers' own processor and tokenizer, over the official special ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dragoman.models import languages
from dragoman.models import prompt as prompts
from dragoman.models.tokenizer import Tokenizer
from tests.models import official

SOFT_IMAGE, SOFT_AUDIO = 262_145, 262_273
PAIRS = [("es", "en"), ("pt", "it")]


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return official.write_tokenizer(tmp_path_factory.mktemp("official") / "tokenizer.json")


@pytest.fixture(scope="module")
def processor(file):
    return official.processor(file, resolution=256)


@pytest.fixture(scope="module")
def tokenizer(file) -> Tokenizer:
    return Tokenizer.from_file(file)


def theirs(processor, pair: tuple[str, str], *kinds: str) -> list[int]:
    """All ids that the processor makes of a user's turn: the instruction, and then ``kinds``."""
    names = [languages.find(code).name for code in pair]
    instruction = (
        f"Transcribe the following speech segment in {names[0]}, then translate it into {names[1]}:"
    )
    content = {
        "audio": {"type": "audio", "audio": np.zeros(32_000, np.float32)},
        "image": {"type": "image", "image": np.full((90, 160, 3), 200, np.uint8)},
    }
    parts = [{"type": "text", "text": instruction}, *(content[kind] for kind in kinds)]
    chat = [{"role": "user", "content": parts}]
    made = processor.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="np"
    )
    return made["input_ids"][0].tolist()


def test_the_special_tokens_have_the_official_ids(tokenizer, processor):
    for name, place in official.SPECIAL_IDS.items():
        assert tokenizer.special(name) == place
        assert tokenizer.encode(f"a{name}b")[1:-1] == [place]
    assert (processor.audio_token_id, processor.image_token_id) == (SOFT_AUDIO, SOFT_IMAGE)
    assert tokenizer.vocab_size == 262_400


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("images", [0, 1, 2])
def test_a_prompt_with_audio_and_pictures(tokenizer, processor, pair, images):
    prompt = prompts.build(tokenizer, *pair, images=images)
    ours = [*prompt.before, *[SOFT_AUDIO] * prompts.AUDIO_TOKENS, *prompt.after]
    assert ours == theirs(processor, pair, *["image"] * images, "audio")
    assert ours[:4] == [2, 105, tokenizer.encode("user")[0], 107]
    assert prompt.before[-2:] == ((110 if images else 108), 256_000)  # \n\n\n\n is one token
    assert prompt.after[:3] == (262_272, 108, 106)
    assert prompt.before.count(SOFT_IMAGE) == 256 * images
    assert prompt.before.count(255_999) == prompt.before.count(262_144) == images
    assert prompt.newlines == tuple(range(107, 138)) and prompt.stop == (106, 1)
    assert prompt.separator[0] == 107


def test_a_prompt_with_a_picture_alone(tokenizer, processor):
    before, after = prompts.prompt_text("es", "en", images=1)
    text = before.removesuffix("\n\n<start_of_audio>") + after.removeprefix("<end_of_audio>\n\n")
    ids = tokenizer.encode(text)
    assert ids == theirs(processor, ("es", "en"), "image")
    assert ids.count(SOFT_IMAGE) == 256


def test_any_text_has_the_ids_that_their_tokenizer_gives(tokenizer, processor):
    for text in (
        "Mañana lloverá, ¿verdad?",
        " two  spaces and\nlines\n\n\nbetween 東京 🙂",
        "<start_of_turn>model\nEnglish: <end_of_turn>\n",
        "\n" * 40,
    ):
        ids = tokenizer.encode(text)
        assert ids == processor.tokenizer.encode(text, add_special_tokens=False)
        shown = processor.tokenizer.decode(ids, skip_special_tokens=True)
        assert tokenizer.decode(ids) == shown
