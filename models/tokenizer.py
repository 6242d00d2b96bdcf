"""Text to token ids and back, over a `tokenizer.json` in the form of Hugging Face's `tokenizers`.

Unusual: decoding is concatenative (the text of a token list is the text of its parts, joined, where
no part ends inside a character), which append-only captions need, so no leading space is stripped
and nothing is cleaned up. And it needs none of the library's tables, of which a vocabulary of
262 144 has 60 MB and more: a process that has read its prompts can do without them (`rest`).
"""

import unicodedata
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

from tokenizers import Tokenizer as _Tokenizer

from dragoman.errors import TokenizerError
from dragoman.models import words

WORD_START = "▁"
AT_ONCE = 4096  # pieces that are strings at a time, while they are packed


class Tokenizer:
    """A tokenizer and the ids of its special tokens.

    read: makes the library's tokenizer; called again where one is needed after a `rest`.
    """

    def __init__(self, read: Callable[[], _Tokenizer]) -> None:
        self._read, self._specials = read, dict[str, int]()
        self._whole: _Tokenizer | None = read()
        self._pieces: Pieces | None = None

    @classmethod
    def from_file(cls, path: Path) -> "Tokenizer":
        """Reads `tokenizer.json`; raises TokenizerError when it is missing or not a tokenizer."""
        return cls(partial(_read, path))

    @property
    def vocab_size(self) -> int:
        return self._library.get_vocab_size()

    def special(self, token: str) -> int:
        """The id of a special token such as `<start_of_audio>`; TokenizerError without it."""
        if token not in self._specials:
            found = self._library.token_to_id(token)
            if found is None:
                raise TokenizerError(
                    f"the tokenizer has no {token}: it is not a Gemma 3n tokenizer; "
                    "take tokenizer.json from the same place as the weights"
                )
            self._specials[token] = found
        return self._specials[token]

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``; special tokens written out in it become their one id."""
        return self._library.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """Text of ``ids``, special tokens left out."""
        return self._decoding.text(ids)

    def piece(self, token: int) -> str:
        """Text of one id by itself; a special token's is empty, that of one byte of a longer
        character some sign that is no space.
        """
        return self._decoding.text([token])

    def begins_word(self, token: int) -> bool:
        """Whether ``token`` cannot continue a word: it starts with a space, is punctuation, or
        begins with a letter of a script that puts no spaces between words (`models.words`).
        """
        piece = self._decoding[token]
        if piece.startswith("<0x"):  # a byte of a longer character
            return False
        # An accent may be a character of its own, after the letter it belongs to.
        inside = piece[:1].isalnum() or unicodedata.category(piece[:1] or " ").startswith("M")
        return not inside or words.begins_word(piece)

    def rest(self) -> None:
        """Keeps only what decoding needs. To encode once more reads the file once more."""
        self._pieces, self._whole = self._decoding, None

    @property
    def _decoding(self) -> "Pieces":
        self._pieces = self._pieces or Pieces(self._library)
        return self._pieces

    @property
    def _library(self) -> _Tokenizer:
        self._whole = self._whole or self._read()
        return self._whole


def whole_words(ids: Sequence[int], count: int, begins_word: Callable[[int], bool]) -> int:
    """How many of the first ``count`` of ``ids`` are whole words: the next id begins another. There
    must be one, so ``count`` is below the number of ids.
    """
    while count > 0 and not begins_word(ids[count]):
        count -= 1
    return max(count, 0)


class Pieces:
    """What decoding needs of a tokenizer: the pieces of all ids, one after the other, and the
    library's decoder, which makes text of pieces.
    """

    def __init__(self, tokenizer: _Tokenizer) -> None:
        self._decoder = tokenizer.decoder
        added = tokenizer.get_added_tokens_decoder()
        self._special = frozenset(i for i, token in added.items() if token.special)
        if not self._pack(tokenizer, tokenizer.get_vocab_size()):  # gaps, so there are higher ids
            self._pack(tokenizer, 1 + max(tokenizer.get_vocab().values()))

    def __getitem__(self, token: int) -> str:
        """The piece of an id, as the vocabulary has it; nothing for an id that has none."""
        if not 0 <= token < len(self._ends) - 1:
            return ""
        return self._bytes[self._ends[token] : self._ends[token + 1]].decode()

    def text(self, ids: list[int]) -> str:
        """What the library's `decode` makes of ``ids``, special tokens left out."""
        pieces = [piece for i in ids if i not in self._special and (piece := self[i])]
        return " ".join(pieces) if self._decoder is None else self._decoder.decode(pieces)

    def _pack(self, tokenizer: _Tokenizer, count: int) -> bool:
        """Packs the pieces of the first ``count`` ids; whether each of them has one."""
        packed, self._ends, full = [], array("I", [0]), True
        for first in range(0, count, AT_ONCE):
            some = range(first, min(first + AT_ONCE, count))
            pieces = [(tokenizer.id_to_token(i) or "").encode() for i in some]
            packed.append(b"".join(pieces))
            self._ends.extend(accumulate(map(len, pieces), initial=self._ends.pop()))
            full = full and b"" not in pieces
        self._bytes = b"".join(packed)
        return full


def _read(path: Path) -> _Tokenizer:
    if not path.is_file():
        raise TokenizerError(f"no tokenizer at {path}: a model folder holds a tokenizer.json")
    try:
        return _Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for a malformed file
        raise TokenizerError(f"{path} is not a readable tokenizer.json: {error}") from error
