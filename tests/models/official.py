"""A tokenizer with the official special ids at their places, and transformers' own processor on it.

The vocabulary is made here: 262 144 pieces and 128 rows for each modality, of which those that the
prompts need are real and the rest are fillers. As in the official files, newlines up to 31 in a row
and the names of special tokens are taken out of a text before the merges are tried.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    Gemma3nAudioFeatureExtractor,
    Gemma3nProcessor,
    GemmaTokenizer,
    SiglipImageProcessor,
)

SPECIAL_IDS = {
    "<pad>": 0,
    "<eos>": 1,
    "<bos>": 2,
    "<unk>": 3,
    "<mask>": 4,
    "<start_of_turn>": 105,
    "<end_of_turn>": 106,
    "<start_of_image>": 255_999,
    "<start_of_audio>": 256_000,
    "<end_of_image>": 262_144,
    "<image_soft_token>": 262_145,
    "<end_of_audio>": 262_272,
    "<audio_soft_token>": 262_273,
}
NEWLINES = {"\n" * count: 106 + count for count in range(1, 32)}
FIRST_BYTE, FIRST_PIECE, SIZE = 238, 494, 262_400
TEXT = (
    "user model Transcribe the following speech segment in Spanish, then translate it into English:"
    " in Portuguese into Italian: German French"
)
# What content parts become, as the published template has it.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<start_of_turn>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'audio' %}{{ '<audio_soft_token>' }}"
    "{% elif part['type'] == 'image' %}{{ '<image_soft_token>' }}"
    "{% else %}{{ part['text'] | trim }}{% endif %}"
    "{% endfor %}{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
NAMED = {
    "image_token": "<image_soft_token>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "audio_token": "<audio_soft_token>",
    "boa_token": "<start_of_audio>",
    "eoa_token": "<end_of_audio>",
}


def _merges(text: str) -> Iterable[tuple[str, str]]:
    """Pairs that grow each word from its left end, with a space before it and without."""
    for word in text.split():
        for form in ("▁" + word, word):
            for length in range(1, len(form)):
                yield form[:length], form[length]


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Pieces with their ids, without gaps, and the merges that make them."""
    merges = list(dict.fromkeys(_merges(TEXT)))
    pieces = dict.fromkeys(
        sorted({character for pair in merges for part in pair for character in part})
    )
    pieces |= dict.fromkeys(a + b for a, b in merges)
    vocab = SPECIAL_IDS | NEWLINES | {f"<0x{byte:02X}>": FIRST_BYTE + byte for byte in range(256)}
    vocab |= {piece: FIRST_PIECE + place for place, piece in enumerate(pieces)}
    taken = set(vocab.values())
    assert len(taken) == len(vocab)
    fillers = {f"<unused{i}>": i for i in range(SIZE) if i not in taken}
    return vocab | fillers, merges


def write_tokenizer(path: Path) -> Path:
    """Writes the `tokenizer.json`; returns ``path``."""
    vocab, merges = vocabulary()
    model = BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in SPECIAL_IDS]
    )
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in NEWLINES])
    tokenizer.save(str(path))
    return path


def processor(tokenizer_file: Path, resolution: int = 768) -> Gemma3nProcessor:
    """transformers' processor, with the settings that were published with the weights."""
    tokenizer = GemmaTokenizer(tokenizer_file=str(tokenizer_file), extra_special_tokens=NAMED)
    return Gemma3nProcessor(
        feature_extractor=Gemma3nAudioFeatureExtractor(),
        image_processor=SiglipImageProcessor(
            image_mean=(0.5,) * 3,
            image_std=(0.5,) * 3,
            size={"height": resolution, "width": resolution},
            resample=2,
            do_normalize=False,
        ),
        tokenizer=tokenizer,
        chat_template=TEMPLATE,
    )
