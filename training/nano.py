"""The shape of the bundled model: a Gemma 3n in small, every text and audio mechanism on.

Unusual: a `Shape` can grow. Encoder blocks and feed-forward widths may be more in a later run,
which takes what an earlier one learnt (`training.growth`).
"""

from dataclasses import dataclass
from typing import Any

from dragoman.models.prompt import PAIRS
from dragoman.models.tokenizer import Tokenizer
from training.tokenizer import AUDIO_ROWS, IMAGE_ROWS, SOFT_ROWS

TEXT_VOCAB = 4_096
SPARSITY = 0.9  # of the feed-forward of the first third of the layers
LANGUAGES = ("en", "es", "fr", "it", "pt")
DIRECTIONS = tuple(
    pair for other in LANGUAGES[1:] for pair in ((other, "en"), ("en", other))
)  # of speech and translation


@dataclass(frozen=True)
class Shape:
    """What may differ between two models of this family; the rest is `config`'s.

    ``layers`` counts the decoder's, of which the last ``shared`` read keys and values of others.
    """

    audio_width: int = 256
    audio_blocks: int = 6
    audio_channels: tuple[int, int] = (32, 16)
    width: int = 256
    layers: int = 6
    shared: int = 3
    ffn: int = 512
    told: int = 16  # width of the per-layer embeddings


SHAPE = Shape()


def config(tokenizer: Tokenizer, shape: Shape = SHAPE) -> dict[str, Any]:
    """The `config.json` of a model of ``shape``, in the Hugging Face layout."""
    special, vocabulary = tokenizer.special, tokenizer.vocab_size - 2 * SOFT_ROWS
    controls = special("<pad>"), special("<eos>"), special("<bos>")
    return {
        "architectures": ["Gemma3nForConditionalGeneration"],
        "model_type": "gemma3n",
        "dtype": "bfloat16",
        "text_config": _text(shape, vocabulary, *controls),
        "audio_config": _audio(shape, special(AUDIO_ROWS[0])),
        "boi_token_id": special("<start_of_image>"),
        "eoi_token_id": special(IMAGE_ROWS[0]),
        "image_token_id": special(IMAGE_ROWS[1]),
        "boa_token_id": special("<start_of_audio>"),
        "eoa_token_id": special(AUDIO_ROWS[0]),
        "audio_token_id": special(AUDIO_ROWS[1]),
        "eos_token_id": [special("<eos>"), special("<end_of_turn>")],
        "tie_word_embeddings": True,
        PAIRS: [list(pair) for pair in DIRECTIONS],
    }


def _text(shape: Shape, vocabulary: int, pad: int, eos: int, bos: int) -> dict[str, Any]:
    period = 5 if shape.layers % 5 == 0 else 3  # the last one of each sees the whole context
    full = [i % period == period - 1 for i in range(shape.layers)]
    sparse = shape.layers // 3
    return {
        "model_type": "gemma3n_text",
        "vocab_size": vocabulary + 2 * SOFT_ROWS,
        "vocab_size_per_layer_input": vocabulary,
        "hidden_size": shape.width,
        "hidden_size_per_layer_input": shape.told,
        "intermediate_size": [shape.ffn] * shape.layers,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.width // 64,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 2_048,
        "initializer_range": 0.06,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1_000_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        },
        "sliding_window": 64,
        "layer_types": ["full_attention" if one else "sliding_attention" for one in full],
        "final_logit_softcapping": 30.0,
        "altup_active_idx": 0,
        "altup_coef_clip": 120.0,
        "altup_correct_scale": True,
        "altup_num_inputs": 2,
        "num_kv_shared_layers": shape.shared,
        "laurel_rank": 16,
        "activation_sparsity_pattern": [SPARSITY] * sparse + [0.0] * (shape.layers - sparse),
        "pad_token_id": pad,
        "eos_token_id": eos,
        "bos_token_id": bos,
    }


def _audio(shape: Shape, offset: int) -> dict[str, Any]:
    return {
        "model_type": "gemma3n_audio",
        "vocab_size": SOFT_ROWS,
        "vocab_offset": offset,
        "input_feat_size": 128,
        "hidden_size": shape.audio_width,
        "rms_norm_eps": 1e-6,
        "gradient_clipping": 1e10,
        "conf_attention_chunk_size": 12,
        "conf_attention_context_left": 13,
        "conf_attention_context_right": 0,
        "conf_attention_logit_cap": 50.0,
        "conf_num_attention_heads": 4,
        "conf_num_hidden_layers": shape.audio_blocks,
        "conf_conv_kernel_size": 5,
        "conf_reduction_factor": 4,
        "conf_residual_weight": 0.5,
        "sscp_conv_channel_size": list(shape.audio_channels),
        "sscp_conv_group_norm_eps": 1e-3,
        "sscp_conv_kernel_size": [[3, 3], [3, 3]],
        "sscp_conv_stride_size": [[2, 2], [2, 2]],
    }
