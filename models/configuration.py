"""What a model folder says of itself, without its weights: settings, tokenizer, size of pictures.

:mod:`models.checkpoint` builds its modules from it. Unusual: other people's folders have keys that
nobody here knows. These are a warning, unless they change what is computed.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

from dragoman.decoder import TextConfig
from dragoman.decoder import config as decoder_config
from dragoman.encoders import AudioConfig, VisionConfig, vision
from dragoman.encoders import config as audio_config
from dragoman.encoders.vision import RESOLUTION, RESOLUTIONS
from dragoman.errors import CheckpointError, TokenizerError
from dragoman.models import alignment, confidence
from dragoman.models.hub import name_of
from dragoman.models.reading import read_json
from dragoman.models.tokenizer import Tokenizer

# The special tokens of every Gemma 3n, and the key under which config.json repeats an id.
SPECIALS = {
    "<bos>": None,
    "<eos>": None,
    "<start_of_turn>": None,
    "<end_of_turn>": None,
    "<start_of_image>": "boi_token_id",
    "<image_soft_token>": "image_token_id",
    "<end_of_image>": "eoi_token_id",
    "<start_of_audio>": "boa_token_id",
    "<audio_soft_token>": "audio_token_id",
    "<end_of_audio>": "eoa_token_id",
}
# Keys of config.json that say something, and those that savers leave there.
# fmt: off
_KEYS = {
    "model_type", "text_config", "audio_config", "vision_config", "tie_word_embeddings",
    "eos_token_id", "audio_soft_tokens_per_image", "vision_soft_tokens_per_image",
    "quantization_config", "language_pairs", confidence.TEMPERATURE, confidence.LEAST,
    alignment.HEADS, alignment.DELAY,
    *filter(None, SPECIALS.values()),
}
_IGNORED = {
    "_attn_implementation_autoset", "_name_or_path", "architectures", "bos_token_id",
    "chunk_size_feed_forward", "dtype", "id2label", "ignore_index", "initializer_range",
    "is_encoder_decoder", "label2id", "output_attentions", "output_hidden_states", "pad_token_id",
    "problem_type", "return_dict", "torch_dtype", "transformers_version", "use_cache",
    # Of tools that derive models: harmless, as they repeat what the sections say or name a class.
    "auto_map", "hidden_size", "num_hidden_layers", "tokenizer_class", "unsloth_fixed",
    "unsloth_version", "vocab_size",
}
# fmt: on

# What of a section of config.json is not known.
_SECTIONS = {
    "text_config": decoder_config.unknown_keys,
    "audio_config": audio_config.unknown_keys,
    "vision_config": vision.unknown_keys,
}

# What `encoders.vision.prepare` does, as preprocessor_config.json calls it; resample 2: bilinear.
PICTURES = {"do_resize": True, "resample": 2, "do_rescale": True, "do_normalize": False}

log = logging.getLogger(__name__)

ReadT = TypeVar("ReadT")


@dataclass(frozen=True)
class Configuration:
    """The settings of the model in ``folder``; ``config`` is its `config.json`.

    Every method raises CheckpointError where the folder is not as it should be.
    """

    folder: Path
    config: Mapping[str, Any]

    @cached_property
    def text_config(self) -> TextConfig:
        return self.section("text_config", TextConfig.from_dict)

    @cached_property
    def audio_config(self) -> AudioConfig:
        return self.section("audio_config", AudioConfig.from_dict)

    @cached_property
    def vision_config(self) -> VisionConfig:
        return self.section("vision_config", VisionConfig.from_dict)

    @cached_property
    def resolution(self) -> int:
        """Pixels a side that pictures are brought to; `preprocessor_config.json` may say."""
        path = self.folder / "preprocessor_config.json"
        said = read_json(path) if path.is_file() else {}
        for key, ours in PICTURES.items():
            if said.get(key, ours) not in (ours, None):
                log.warning("%s: %s is %r; pictures are seen with %r", path, key, said[key], ours)
        size = said.get("size")
        if size is None:
            return RESOLUTION
        if not isinstance(size, dict) or size.get("height") not in RESOLUTIONS:
            raise CheckpointError(
                f"{path}: size is {size!r}, expected a height and width of {RESOLUTIONS}"
            )
        return size["height"]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer; it has the special tokens, at the places that `config.json` says."""
        path = self.folder / "tokenizer.json"
        try:
            tokenizer = Tokenizer.from_file(path)
        except TokenizerError as error:
            raise CheckpointError(str(error)) from error
        for token, key in SPECIALS.items():
            try:
                found = tokenizer.special(token)
            except TokenizerError as error:
                raise CheckpointError(f"{path}: {error}") from error
            said = self.config.get(key, found) if key else found
            if found != said:
                raise CheckpointError(
                    f"{path} has {token} at {found}, but {key} in config.json is {said}: take both "
                    "from the same place"
                )
        return tokenizer

    @property
    def name(self) -> str:
        return name_of(self.folder)

    @property
    def alignment_heads(self) -> tuple[tuple[int, int], ...]:
        """The heads that look at the sound of what they write; none where none are known."""
        text = self.text_config
        return alignment.heads(self.config, text.num_hidden_layers, text.num_attention_heads)

    @property
    def alignment_delay_ms(self) -> int:
        """How much later than the middle of a word's sound they look."""
        return alignment.delay_ms(self.config)

    @property
    def confidence_temperature(self) -> float:
        """What the decoder's logits are divided by before they are probabilities of words."""
        return confidence.temperature(self.config)

    def section(self, name: str, make: Callable[[dict[str, Any]], ReadT]) -> ReadT:
        """What ``make`` makes of a section of `config.json`."""
        path, section = self.folder / "config.json", self.config.get(name)
        if not isinstance(section, dict):
            raise CheckpointError(f"{path} has no {name}: not a Gemma 3n folder")
        try:
            return make(section)
        except CheckpointError:
            raise
        except KeyError as error:
            raise CheckpointError(f"{path}: {name} has no {error}") from None
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}") from error


def check_keys(config: Mapping[str, Any], folder: Path) -> None:
    """Warns of keys that nobody here knows; raises CheckpointError for one that changes what is
    computed.
    """
    path = folder / "config.json"
    unknown = sorted(set(config) - _KEYS - _IGNORED)
    for section, known in _SECTIONS.items():
        if isinstance(values := config.get(section), Mapping):
            unknown += [f"{section}.{key}" for key in known(values)]
    if unknown:
        _warn_once(f"{path}: ignoring keys that are not known here: {', '.join(unknown)}")
    if config.get("tie_word_embeddings") not in (True, None):
        raise CheckpointError(
            f"{path}: tie_word_embeddings is {config['tie_word_embeddings']!r}, expected true: a "
            "Gemma 3n has no output head of its own"
        )


@cache
def _warn_once(message: str) -> None:
    log.warning("%s", message)
