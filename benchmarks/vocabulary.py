"""A made `tokenizer.json` with the official special ids, for random checkpoints.

Unusual: it was never trained. Every entry that is not a special token, a byte, or a piece of our
prompts is a made word with a space before it, so any id that a random model answers with decodes to
text, and the prompts are about as many tokens as they are with the official file.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from dragoman.models import prompt as prompts

LEAST = 1024  # entries for text: special tokens, bytes, pieces of the prompts, and some words
BYTES = 256
FIRST_BYTE = 200  # ids of the byte pieces; the official file has them elsewhere, no one depends
# A word with the space before it, one newline or several, one sign of punctuation.
PIECE = re.compile(r"▁?[^\W_]+|\n+|.", re.DOTALL)
SYLLABLES = ("ba", "de", "fi", "go", "lu", "ma", "ne", "pi", "ro", "su", "ta", "ve", "wi", "xo")


@dataclass(frozen=True)
class Layout:
    """Where the special tokens lie: ``text`` entries, then ``rows`` for images, and as many for
    audio.
    """

    text: int = 262_144
    rows: int = 128

    @property
    def size(self) -> int:
        return self.text + 2 * self.rows

    def specials(self) -> dict[str, int]:
        """Names to ids; with the default sizes these are the official ids."""
        official = self.text == 262_144
        return {
            "<pad>": 0,
            "<eos>": 1,
            "<bos>": 2,
            "<unk>": 3,
            "<start_of_turn>": 105,
            "<end_of_turn>": 106,
            "<start_of_image>": 255_999 if official else 107,
            "<start_of_audio>": 256_000 if official else 108,
            "<end_of_image>": self.text,
            "<image_soft_token>": self.text + 1,
            "<end_of_audio>": self.text + self.rows,
            "<audio_soft_token>": self.text + self.rows + 1,
        }


def write(path: Path, layout: Layout) -> None:
    """Writes the tokenizer; raises ValueError for a vocabulary that has no room for its parts."""
    vocab, rows = vocabulary(layout), range(layout.text, layout.size)
    added = [(name, i) for name, i in vocab.items() if i in rows]
    added += [(name, i) for name, i in layout.specials().items() if i not in rows]
    path.write_text(json.dumps(_form(vocab, added), ensure_ascii=False), encoding="utf-8")


def vocabulary(layout: Layout) -> dict[str, int]:
    """All pieces and their ids, without gaps; ValueError for fewer than LEAST of text."""
    if layout.text < LEAST:
        raise ValueError(f"a vocabulary of {layout.text} is too small: give at least {LEAST}")
    specials = layout.specials()
    vocab = specials | {f"<0x{value:02X}>": FIRST_BYTE + value for value in range(BYTES)}
    taken = set(vocab.values())
    free = (i for i in range(layout.text) if i not in taken)
    pieces = _prompt_pieces(specials)
    vocab |= {piece: next(free) for piece in pieces}
    vocab |= {"▁" + _word(i): i for i in free}
    rows = (i for i in range(layout.text, layout.size) if i not in taken)
    return vocab | {f"<unused_row_{i}>": i for i in rows}


def _prompt_pieces(specials: dict[str, int]) -> list[str]:
    """What our prompts are made of, each piece once."""
    special = re.compile("|".join(specials))
    texts = [*prompts.prompt_text("es", "en"), "\n" + prompts.label("en"), "\n\n\n"]
    parts = (part.replace(" ", "▁") for text in texts for part in special.split(text))
    found = dict.fromkeys(piece for part in parts for piece in PIECE.findall(part))
    return [piece for piece in found if piece not in specials]


def _word(number: int) -> str:
    """A word for a number, another one for each."""
    base, syllables = len(SYLLABLES), []
    while True:
        number, digit = divmod(number, base)
        syllables.append(SYLLABLES[digit])
        if number == 0:
            return "".join(syllables)


def _form(vocab: dict[str, int], added: list[tuple[str, int]]) -> dict:
    """The JSON that `tokenizers` reads: byte-fallback BPE that takes whole pieces and never
    merges.
    """
    flags = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": name, **flags}
            for name, i in sorted(added, key=lambda pair: pair[1])
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": PIECE.pattern.replace("^\\W_", "\\p{L}\\p{N}")},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": True,
            "vocab": vocab,
            "merges": [],
        },
    }
