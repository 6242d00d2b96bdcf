"""The shape of the bundled model: a Gemma 3n in small, every text and audio mechanism on."""

from typing import Any

from dragoman.models.prompt import PAIRS
from dragoman.models.tokenizer import Tokenizer
from training.tokenizer import AUDIO_ROWS, IMAGE_ROWS, SOFT_ROWS

TEXT_VOCAB = 1_280
LAYERS = 10
PATTERN = [*["sliding_attention"] * 4, "full_attention"]


def config(tokenizer: Tokenizer) -> dict[str, Any]:
    """The `config.json` of the bundled model, in the Hugging Face layout."""
    special = tokenizer.special
    return {
        "architectures": ["Gemma3nForConditionalGeneration"],
        "model_type": "gemma3n",
        "dtype": "bfloat16",
        "text_config": _text(special("<pad>"), special("<eos>"), special("<bos>")),
        "audio_config": _audio(special(AUDIO_ROWS[0])),
        "boi_token_id": special("<start_of_image>"),
        "eoi_token_id": special(IMAGE_ROWS[0]),
        "image_token_id": special(IMAGE_ROWS[1]),
        "boa_token_id": special("<start_of_audio>"),
        "eoa_token_id": special(AUDIO_ROWS[0]),
        "audio_token_id": special(AUDIO_ROWS[1]),
        "eos_token_id": [special("<eos>"), special("<end_of_turn>")],
        "tie_word_embeddings": True,
        PAIRS: [["es", "en"]],
    }


def _text(pad: int, eos: int, bos: int) -> dict[str, Any]:
    return {
        "model_type": "gemma3n_text",
        "vocab_size": TEXT_VOCAB + 2 * SOFT_ROWS,
        "vocab_size_per_layer_input": TEXT_VOCAB,
        "hidden_size": 256,
        "hidden_size_per_layer_input": 16,
        "intermediate_size": [512] * LAYERS,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
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
        "layer_types": PATTERN * (LAYERS // len(PATTERN)),
        "final_logit_softcapping": 30.0,
        "altup_active_idx": 0,
        "altup_coef_clip": 120.0,
        "altup_correct_scale": True,
        "altup_num_inputs": 2,
        "num_kv_shared_layers": 5,
        "laurel_rank": 16,
        "activation_sparsity_pattern": [0.95] * 3 + [0.0] * (LAYERS - 3),
        "pad_token_id": pad,
        "eos_token_id": eos,
        "bos_token_id": bos,
    }


def _audio(offset: int) -> dict[str, Any]:
    return {
        "model_type": "gemma3n_audio",
        "vocab_size": SOFT_ROWS,
        "vocab_offset": offset,
        "input_feat_size": 128,
        "hidden_size": 192,
        "rms_norm_eps": 1e-6,
        "gradient_clipping": 1e10,
        "conf_attention_chunk_size": 12,
        "conf_attention_context_left": 13,
        "conf_attention_context_right": 0,
        "conf_attention_logit_cap": 50.0,
        "conf_num_attention_heads": 4,
        "conf_num_hidden_layers": 6,
        "conf_conv_kernel_size": 5,
        "conf_reduction_factor": 4,
        "conf_residual_weight": 0.5,
        "sscp_conv_channel_size": [32, 16],
        "sscp_conv_group_norm_eps": 1e-3,
        "sscp_conv_kernel_size": [[3, 3], [3, 3]],
        "sscp_conv_stride_size": [[2, 2], [2, 2]],
    }
