"""Makes the bundled model's `tokenizer.json`: byte-fallback BPE in the form of Gemma's own.

A space becomes ``▁`` at the head of the next word. Unlike Gemma's, words, newlines and punctuation
never merge with each other, so the ids of a sentence's first words are the first ids of the
sentence: captions commit word by word. The special tokens have the official names and stand in the
official order (text, then image, then audio), at ids of a small vocabulary.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

CONTROLS = [
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<start_of_audio>",
]
SOFT_ROWS = 8  # hard embeddings of each modality; the official models have 128
IMAGE_ROWS = ["<end_of_image>", "<image_soft_token>"]
AUDIO_ROWS = ["<end_of_audio>", "<audio_soft_token>"]
SPECIAL = re.compile("|".join([*CONTROLS, *IMAGE_ROWS, *AUDIO_ROWS]))


def train(texts: Iterable[str], text_vocab: int, path: Path) -> None:
    """Trains on ``texts`` and writes ``path``; the vocabulary has text_vocab + 2·8 entries."""
    tokenizer = Tokenizer(BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\n+|[.,;:!?¡¿]"), "isolated"),
            pre_tokenizers.Split("▁", "merged_with_next"),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    trainer = BpeTrainer(
        vocab_size=text_vocab, special_tokens=CONTROLS + bytes_, show_progress=False
    )
    # Written out in a text, specials would be learnt letter by letter, and never be used.
    plain = (part for text in texts for part in SPECIAL.split(text))
    tokenizer.train_from_iterator(plain, trainer)
    padding = text_vocab - tokenizer.get_vocab_size()
    if padding < 0:
        raise ValueError(f"vocabulary of {text_vocab} is too small: {-padding} more are needed")
    tokenizer.add_tokens([f"<unused{i}>" for i in range(padding)])
    rows = [*_padded(IMAGE_ROWS, "image"), *_padded(AUDIO_ROWS, "audio")]
    tokenizer.add_special_tokens([AddedToken(row, special=True, normalized=False) for row in rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_with_ordinary_bytes(tokenizer.to_str()), encoding="utf-8")


def _with_ordinary_bytes(saved: str) -> str:
    # The trainer only reserves ids for what it calls special; a byte must not stay so, or decoding
    # would leave it out.
    form = json.loads(saved)
    form["added_tokens"] = [t for t in form["added_tokens"] if not t["content"].startswith("<0x")]
    return json.dumps(form, ensure_ascii=False, indent=1) + "\n"


def _padded(rows: list[str], name: str) -> list[str]:
    return rows + [f"<{name}_unused{i}>" for i in range(SOFT_ROWS - len(rows))]
