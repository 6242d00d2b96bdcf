"""The configuration of the released E2B, as transformers 4.53 wrote it, with weights of true size.

The weights are zeros in a sparse file: headers as the release has them, and no disk space.
"""

import json
import struct
from pathlib import Path

import pytest
import torch

from dragoman.decoder import unused_tensor_names
from dragoman.encoders import AudioConfig
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.reading import GROUPS
from tests.models.test_official_names import E2B, ours
from tests.parts import layer

BF16 = {"torch_dtype": "bfloat16"}
LAYERS = 30
CONFIG = {
    "architectures": ["Gemma3nForConditionalGeneration"],
    "model_type": "gemma3n",
    "transformers_version": "4.53.1",
    "initializer_range": 0.02,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "image_token_id": 262_145,
    "boi_token_id": 255_999,
    "eoi_token_id": 262_144,
    "audio_token_id": 262_273,
    "boa_token_id": 256_000,
    "eoa_token_id": 262_272,
    "audio_soft_tokens_per_image": 188,
    "vision_soft_tokens_per_image": 256,
    **BF16,
    "text_config": {
        "model_type": "gemma3n_text",
        "vocab_size": 262_400,
        "vocab_size_per_layer_input": 262_144,
        "hidden_size": 2048,
        "hidden_size_per_layer_input": 256,
        "intermediate_size": [8192] * LAYERS,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "num_kv_shared_layers": 10,
        "head_dim": 256,
        "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 6,
        "sliding_window": 512,
        "max_position_embeddings": 32_768,
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
        "rope_scaling": None,
        "rms_norm_eps": 1e-06,
        "activation_sparsity_pattern": [0.95] * 10 + [0.0] * 20,
        "altup_active_idx": 0,
        "altup_coef_clip": 120.0,
        "altup_correct_scale": True,
        "altup_num_inputs": 4,
        "laurel_rank": 64,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "final_logit_softcapping": 30.0,
        "hidden_activation": "gelu_pytorch_tanh",
        "initializer_range": 0.02,
        "use_cache": True,
        **BF16,
    },
    "audio_config": {
        "model_type": "gemma3n_audio",
        "vocab_size": 128,
        "vocab_offset": 262_272,
        "input_feat_size": 128,
        "hidden_size": 1536,
        "rms_norm_eps": 1e-06,
        "gradient_clipping": 1e10,
        "conf_attention_chunk_size": 12,
        "conf_attention_context_left": 13,
        "conf_attention_context_right": 0,
        "conf_attention_logit_cap": 50.0,
        "conf_conv_kernel_size": 5,
        "conf_num_attention_heads": 8,
        "conf_num_hidden_layers": 12,
        "conf_reduction_factor": 4,
        "conf_residual_weight": 0.5,
        "sscp_conv_channel_size": [128, 32],
        "sscp_conv_group_norm_eps": 0.001,
        "sscp_conv_kernel_size": [[3, 3], [3, 3]],
        "sscp_conv_stride_size": [[2, 2], [2, 2]],
        **BF16,
    },
    "vision_config": {
        "model_type": "gemma3n_vision",
        "architecture": "mobilenetv5_300m_enc",
        "do_pooling": False,
        "hidden_size": 2048,
        "initializer_range": 0.02,
        "label_names": ["LABEL_0", "LABEL_1"],
        "model_args": None,
        "num_classes": 2,
        "rms_norm_eps": 1e-06,
        "vocab_offset": 262_144,
        "vocab_size": 128,
        **BF16,
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("E2B")
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    shapes = ours(E2B) | {
        GROUPS["language_model"] + name: (512, 2048) for name in unused_tensor_names(E2B)
    }
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return folder


def test_it_is_read_as_it_is(folder):
    checkpoint = Checkpoint.open(str(folder))
    assert checkpoint.text_config.ffn_widths == (8192,) * LAYERS
    assert checkpoint.text_config.to_dict() == E2B.to_dict()
    assert checkpoint.audio_config == AudioConfig()
    assert checkpoint.has_vision and checkpoint.vision_config.hidden_size == 2048
    assert checkpoint.dtype("auto") == torch.bfloat16


def test_its_groups_load(folder):
    checkpoint = Checkpoint.open(str(folder))
    model = checkpoint.language_model()
    assert layer(model, 9).mlp.down_proj.weight.shape == (2048, 8192)
    assert checkpoint.embedder("audio").soft(torch.zeros(1, 1, 1536).bfloat16()).shape[-1] == 2048
