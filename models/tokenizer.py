"""Text to token ids and back, over a `tokenizer.json` in the form of Hugging Face's `tokenizers`.

Unusual: decoding is concatenative (the text of a token list is the text of its parts, joined, where
no part ends inside a character), which append-only captions need, so no leading space is stripped
and nothing is cleaned up.
"""

import unicodedata
from pathlib import Path

from tokenizers import Tokenizer as _Tokenizer

WORD_START = "▁"


class TokenizerError(ValueError):
    """The tokenizer file is missing, unreadable, or lacks a special token that the prompt needs."""


class Tokenizer:
    """A tokenizer and the ids of its special tokens."""

    def __init__(self, tokenizer: _Tokenizer) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def from_file(cls, path: Path) -> "Tokenizer":
        """Reads `tokenizer.json`; raises TokenizerError when it is missing or not a tokenizer."""
        if not path.is_file():
            raise TokenizerError(f"no tokenizer at {path}: a model folder holds a tokenizer.json")
        try:
            return cls(_Tokenizer.from_file(str(path)))
        except Exception as error:  # the library raises bare Exception for a malformed file
            raise TokenizerError(f"{path} is not a readable tokenizer.json: {error}") from error

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def special(self, token: str) -> int:
        """The id of a special token such as `<start_of_audio>`; TokenizerError without it."""
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise TokenizerError(
                f"the tokenizer has no {token}: it is not a Gemma 3n tokenizer; "
                "take tokenizer.json from the same place as the weights"
            )
        return found

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``; special tokens written out in it become their one id."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """Text of ``ids``, special tokens left out."""
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def begins_word(self, token: int) -> bool:
        """Whether ``token`` cannot continue a word: it starts with a space, or is punctuation."""
        piece = self._tokenizer.id_to_token(token) or ""
        if piece.startswith("<0x"):  # a byte of a longer character
            return False
        # An accent may be a character of its own, after the letter it belongs to.
        return not (piece[:1].isalnum() or unicodedata.category(piece[:1] or " ").startswith("M"))
