"""The official turns and the chain-of-thought instruction, as token ids, and the answer's form.

The instruction stands before the audio, so that every soft token can enter the cache as it comes;
pictures stand between the two. Unusual: newlines where two parts meet may be one token, so a prompt
with pictures is another list of ids and not a list with pictures put in.
The instruction has a short wording and a long one, which says what the answer looks like: the
transcript, one newline, ``English: `` and the translation. Or it is anybody's own.

Sources: the short wording is that of "Introducing Gemma 3n: The developer guide", section "Audio
understanding" (developers.googleblog.com); nothing longer was published for Gemma 3n. The long one
is, word for word, the prompt for "Automatic Speech Translation (AST)" in section "Audio" of the
"Gemma 4 model card" (ai.google.dev/gemma/docs/core/model_card_4).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.errors import CheckpointError, LanguageError, UsageError
from dragoman.models import languages
from dragoman.models.tokenizer import Tokenizer

PAIRS = "language_pairs"  # the key of config.json; official models have none
Pairs = tuple[tuple[str, str], ...]  # codes of the language spoken and of the one written
SPECIALS = (
    "<bos>",
    "<start_of_turn>",
    "<start_of_audio>",
    "<end_of_audio>",
    "<end_of_turn>",
)
IMAGE_SPECIALS = ("<start_of_image>", "<image_soft_token>", "<end_of_image>")
IMAGE_TOKENS = 256  # soft tokens of a picture
AUDIO_TOKENS = 188  # soft tokens of 30 s of sound, to which the reference fills up
MANY = range(1, 32)  # newlines in a row that may be one token
SHORT, LONG = "short", "long"
STYLES = {
    SHORT: "Transcribe the following speech segment in {language}, then translate it into "
    "{target_language}:",
    LONG: "Transcribe the following speech segment in {language}, then translate it into "
    "{target_language}.\nWhen formatting the answer, first output the transcription in {language}, "
    "then one newline, then output the string '{target_language}: ', then the translation in "
    "{target_language}.",
}
PLACEHOLDERS = ("{language}", "{target_language}")
MOST_CHARACTERS = 4000  # of an instruction: more would not leave room for speech


def pairs_of(config: Mapping[str, Any]) -> Pairs:
    """The pairs of languages that a model's `config.json` says it is made for; none: any pair.

    Raises CheckpointError for a declaration that is no list of pairs of known codes.
    """
    said = config.get(PAIRS, [])
    if not (isinstance(said, list) and all(map(_is_pair, said))):
        raise CheckpointError(
            f'{PAIRS} in config.json is {said!r}, expected a list such as [["es", "en"]]'
        )
    return tuple((language, target_language) for language, target_language in said)


def check_pair(language: str, target_language: str, pairs: Pairs, model: str) -> None:
    """Raises LanguageError for a pair that is none, or not one of the ``pairs`` of ``model``."""
    for said in (language, target_language):
        languages.find(said)
    if language == target_language:
        raise LanguageError(
            f"--language and --target-language are both {language!r}: "
            "choose another language to translate into"
        )
    if pairs and (language, target_language) not in pairs:
        known = ", ".join(f"{source} to {target}" for source, target in pairs)
        raise LanguageError(
            f"{model} does not translate {language} to {target_language}, only {known}: "
            "choose that, or another --model such as google/gemma-3n-E2B-it"
        )


def _is_pair(said: object) -> bool:
    known = list(languages.LANGUAGES)  # a list: what is said may be anything, unhashable too
    return isinstance(said, list) and len(said) == 2 and all(code in known for code in said)


@dataclass(frozen=True)
class Prompt:
    """Token ids around the audio, and of the separator between transcript and translation.

    ``before`` ends with `<start_of_audio>`, ``after`` starts with `<end_of_audio>` and ends where
    the model's answer begins; ``separator`` is a newline and the target language's label;
    ``newlines`` are all tokens of newlines alone; ``stop`` ends an answer.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    separator: tuple[int, ...]
    newlines: tuple[int, ...]
    stop: tuple[int, ...]


def label(target_language: str) -> str:
    """What stands before the translation, without the space after it: `English:`."""
    return f"{languages.find(target_language).name}:"


def style_of(said: str) -> str:
    """The style that is meant by `short`, `long`, an instruction itself, which has braces, or else
    the path of a file that holds one.

    Raises UsageError for a file that cannot be read, or an instruction that cannot be meant.
    """
    if said in STYLES:
        return said
    if "{" in said:
        _check_instruction(said, "the instruction")
        return said
    try:
        text = Path(said).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(
            f"prompt style {said}: {reason}: choose {', '.join(STYLES)}, or a text file with "
            f"{' and '.join(PLACEHOLDERS)}"
        ) from None
    _check_instruction(text, said)
    return text


def _check_instruction(text: str, where: str) -> None:
    """Raises UsageError unless ``text`` has the placeholders, these alone, and no special token."""
    said = re.findall(r"{.*?}", text)
    wrong = sorted(set(said) - set(PLACEHOLDERS))
    missing = [name for name in PLACEHOLDERS if name not in said]
    specials = [name for name in (*SPECIALS, *IMAGE_SPECIALS, "<eos>") if name in text]
    for names, what in (
        (wrong, "unknown placeholders"), (missing, "missing placeholders"),
        (specials, "special tokens, which stand around the instruction already:"),
    ):  # fmt: skip
        if names:
            raise UsageError(
                f"{where}: {what} {', '.join(names)}: write {' and '.join(PLACEHOLDERS)} where "
                "the names of the languages belong, and nothing else in braces"
            )
    if len(text) > MOST_CHARACTERS:
        raise UsageError(
            f"{where}: {len(text)} characters, expected at most {MOST_CHARACTERS}: shorten it"
        )


def instruction(language: str, target_language: str, style: str = SHORT) -> str:
    """What the model is asked to do; raises LanguageError.

    ``style`` is a name of `STYLES`, or an instruction with placeholders.
    """
    text = STYLES.get(style, style)
    names = (languages.find(language).name, languages.find(target_language).name)
    for placeholder, name in zip(PLACEHOLDERS, names, strict=True):
        text = text.replace(placeholder, name)
    return text


def prompt_text(
    language: str, target_language: str, images: int = 0, style: str = SHORT
) -> tuple[str, str]:
    """The text before and after the audio's soft tokens, special tokens written out.

    ``images`` is the number of pictures, which stand before the audio; ``style`` as `instruction`
    has it.
    """
    start, soft, end = IMAGE_SPECIALS
    shown = f"\n\n{start}{soft * IMAGE_TOKENS}{end}\n\n" * images
    asked = instruction(language, target_language, style)
    before = f"<bos><start_of_turn>user\n{asked}{shown}\n\n<start_of_audio>"
    after = "<end_of_audio>\n\n<end_of_turn>\n<start_of_turn>model\n"
    return before, after


def build(
    tokenizer: Tokenizer,
    language: str,
    target_language: str,
    images: int = 0,
    style: str = SHORT,
) -> Prompt:
    """The ids of a prompt with so many pictures, in a ``style`` as `instruction` has it; raises
    LanguageError or TokenizerError.
    """
    before, after = prompt_text(language, target_language, images, style)
    wanted = SPECIALS + (IMAGE_SPECIALS if images else ())
    for name in wanted:  # one that is unknown would silently be spelt out
        tokenizer.special(name)
    separator = tokenizer.encode("\n" + label(target_language))
    return Prompt(
        before=tuple(tokenizer.encode(before)),
        after=tuple(tokenizer.encode(after)),
        separator=tuple(separator),
        newlines=tuple(dict.fromkeys(tokenizer.encode("\n" * n)[0] for n in MANY)),
        stop=(tokenizer.special("<end_of_turn>"), tokenizer.special("<eos>")),
    )
