"""The configuration: what is read, what is refused, which layer reads whose keys and values."""

import json

import pytest
from transformers import Gemma3nTextConfig

from dragoman.decoder import TextConfig, kv_sources, unused_tensor_names
from dragoman.decoder.config import unknown_keys

E2B = TextConfig(num_hidden_layers=30, num_kv_shared_layers=10, intermediate_size=8192)
E4B = TextConfig()

# The text_config of the first official E2B file, as far as it differs from what is written today.
OLD_E2B = {
    "model_type": "gemma3n_text",
    "torch_dtype": "bfloat16",
    "activation_sparsity_pattern": [0.95] * 10 + [0.0] * 20,
    "altup_active_idx": 0,
    "altup_coef_clip": 120.0,
    "altup_correct_scale": True,
    "altup_lr_multiplier": 1.0,
    "altup_num_inputs": 4,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "final_logit_softcapping": 30.0,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 2048,
    "hidden_size_per_layer_input": 256,
    "initializer_range": 0.02,
    "intermediate_size": [8192] * 30,
    "laurel_rank": 64,
    "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 6,
    "max_position_embeddings": 32768,
    "num_attention_heads": 8,
    "num_hidden_layers": 30,
    "num_key_value_heads": 2,
    "num_kv_shared_layers": 10,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": 512,
    "use_cache": True,
    "vocab_size": 262400,
    "vocab_size_per_layer_input": 262144,
}


def test_kv_sources_of_the_official_sizes():
    own = list(range(20))
    assert list(kv_sources(E2B)) == own + [18, 18, 18, 18, 19] * 2
    assert list(kv_sources(E4B)) == own + [18, 18, 18, 18, 19] * 3


def test_old_official_file_is_the_default_e2b():
    assert TextConfig.from_dict(OLD_E2B) == E2B


def test_round_trip_through_json():
    config = TextConfig(num_hidden_layers=5, num_kv_shared_layers=0, eos_token_id=(1, 106))
    assert TextConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("ours", [E2B, E4B])
def test_what_transformers_writes_is_read_and_what_we_write_it_reads(ours):
    values = ours.to_dict()
    values.pop("model_type")
    theirs = Gemma3nTextConfig(**values)
    assert TextConfig.from_dict(json.loads(theirs.to_json_string(use_diff=False))) == ours
    assert theirs.rope_parameters is not None
    assert theirs.rope_parameters["full_attention"]["rope_theta"] == ours.rope_theta
    assert theirs.rope_parameters["sliding_attention"]["rope_theta"] == ours.rope_local_base_freq


def test_nested_rope_bases_win_over_the_defaults():
    nested = {
        "full_attention": {"rope_type": "default", "rope_theta": 5e5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
    }
    config = TextConfig.from_dict({"rope_parameters": nested})
    assert (config.rope_theta, config.rope_local_base_freq) == (5e5, 2e4)


def test_keys_of_others_are_named_and_left_out():
    strange = {"hiden_size": 3, "unsloth_fixed": True}
    assert unknown_keys({**TextConfig().to_dict(), **strange}) == ["hiden_size", "unsloth_fixed"]
    assert TextConfig.from_dict(strange) == TextConfig()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is 50.0"),
        ({"num_experts": 8}, "num_experts"),
        ({"hidden_activation": "relu"}, "hidden_activation is 'relu'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"rope_scaling": {"factor": 2}}, "rope_scaling"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "rope_type"),
        ({"rope_parameters": {"rope_theta": 1.0}}, "rope_theta"),
        ({"intermediate_size": [8] * 3}, "intermediate_size has 3 entries for 35 layers"),
        ({"layer_types": ["sliding"] * 35}, "layer_types"),
        ({"activation_sparsity_pattern": 1.0}, "activation_sparsity_pattern"),
        ({"num_attention_heads": 8, "num_key_value_heads": 3}, "multiple"),
        ({"head_dim": 7}, "head_dim"),
        ({"altup_active_idx": 4}, "altup_active_idx"),
        ({"num_kv_shared_layers": 35}, "num_kv_shared_layers"),
        ({"hidden_size": 0}, "hidden_size must be positive"),
        ({"final_logit_softcapping": 0.0}, "final_logit_softcapping"),
    ],
)
def test_refusals_name_the_culprit(values, message):
    with pytest.raises(ValueError, match=message):
        TextConfig.from_dict(values)


def test_sharing_without_an_owner_of_the_type_is_refused():
    with pytest.raises(ValueError, match=r"layer 4 \(full_attention\) shares"):
        TextConfig(num_hidden_layers=10, num_kv_shared_layers=6)


def test_unused_tensors_are_those_of_the_shared_layers():
    names = unused_tensor_names(E2B)
    assert len(names) == 30
    assert names[0] == "layers.20.self_attn.k_proj.weight"
    assert names[-1] == "layers.29.self_attn.k_norm.weight"


@pytest.mark.parametrize(
    "change",
    [
        {"initializer_range": [[]]},
        {"hidden_size": True},
        {"hidden_size": 2048.0},
        {"vocab_size": 2**63},
        {"rope_theta": float("inf")},
        {"altup_correct_scale": 1},
        {"intermediate_size": [1.5] * 35},
        {"eos_token_id": ["1"]},
        {"num_hidden_layers": 10**6},
        {"sliding_window": 2**30},
    ],
)
def test_numbers_that_no_model_has_are_refused_by_name(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        TextConfig.from_dict(change)
