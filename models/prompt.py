"""The official turns and the chain-of-thought instruction, as token ids, and the answer's form.

The instruction stands before the audio, so that every soft token can enter the cache as it comes;
pictures stand between the two. Unusual: newlines where two parts meet may be one token, so a prompt
with pictures is another list of ids and not a list with pictures put in.
The answer is the transcript, one newline, ``English: `` and the translation. It is taken apart
while it is decoded: a newline, or the label without one, ends the transcript.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dragoman.errors import CheckpointError, LanguageError
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
    any of ``newlines`` ends the transcript; ``stop`` ends an answer; ``labels`` are the ways to
    write the label without a newline before it.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    separator: tuple[int, ...]
    newlines: tuple[int, ...]
    stop: tuple[int, ...]
    labels: tuple[tuple[int, ...], ...]

    def before_label(self, ids: list[int]) -> list[int]:
        """The ``ids`` of a transcript, cut where the translation's label begins, if it does."""
        for end in range(len(ids)):
            if any(tuple(ids[end : end + len(label)]) == label for label in self.labels):
                return ids[:end]
        return ids


def label(target_language: str) -> str:
    """What stands before the translation, without the space after it: `English:`."""
    return f"{languages.find(target_language).name}:"


def prompt_text(language: str, target_language: str, images: int = 0) -> tuple[str, str]:
    """The text before and after the audio's soft tokens, special tokens written out.

    ``images`` is the number of pictures, which stand before the audio.
    """
    instruction = (
        f"Transcribe the following speech segment in {languages.find(language).name}, "
        f"then translate it into {languages.find(target_language).name}:"
    )
    start, soft, end = IMAGE_SPECIALS
    shown = f"\n\n{start}{soft * IMAGE_TOKENS}{end}\n\n" * images
    before = f"<bos><start_of_turn>user\n{instruction}{shown}\n\n<start_of_audio>"
    after = "<end_of_audio>\n\n<end_of_turn>\n<start_of_turn>model\n"
    return before, after


def build(tokenizer: Tokenizer, language: str, target_language: str, images: int = 0) -> Prompt:
    """The ids of a prompt with so many pictures; raises LanguageError or TokenizerError."""
    before, after = prompt_text(language, target_language, images)
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
        labels=tuple(tuple(tokenizer.encode(s + label(target_language))) for s in ("", " ")),
    )
