from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import (
    Gemma3nAudioConfig,
    Gemma3nConfig,
    Gemma3nModel,
    Gemma3nTextConfig,
    Gemma3nVisionConfig,
    SiglipImageProcessor,
)

from dragoman.encoders import MultimodalEmbedder, VisionConfig, VisionTower
from dragoman.encoders.vision import RESOLUTIONS, SOFT_TOKENS, prepare
from dragoman.models.prompt import IMAGE_TOKENS
from tests import nano_like, seeing


@pytest.fixture(scope="module")
def reference() -> Gemma3nModel:
    """transformers' whole model, tiny, with random eyes."""
    text = Gemma3nTextConfig(
        vocab_size=64,
        vocab_size_per_layer_input=48,
        hidden_size=32,
        hidden_size_per_layer_input=8,
        intermediate_size=[32, 32],
        num_hidden_layers=2,
        layer_types=["sliding_attention", "full_attention"],
        num_kv_shared_layers=0,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        laurel_rank=4,
        activation_sparsity_pattern=[0.0, 0.0],
        pad_token_id=0,
    )
    audio = Gemma3nAudioConfig(
        vocab_size=8,
        vocab_offset=56,
        hidden_size=32,
        conf_num_attention_heads=2,
        conf_num_hidden_layers=1,
        sscp_conv_channel_size=(8, 4),
    )
    vision = Gemma3nVisionConfig(
        vocab_size=8, vocab_offset=48, model_args=dict(seeing.NARROW.model_args)
    )
    torch.manual_seed(3)
    model = Gemma3nModel(
        Gemma3nConfig(text_config=text, vision_config=vision, audio_config=audio)
    ).eval()
    seeing.randomize(model.vision_tower)
    nano_like.randomize(model.embed_vision)
    return model


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with some noise: uint8 [H, W, 3]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 40
    waves = [np.sin(x * a + y * b + c) for a, b, c in random.uniform(0, 3, (3, 3))]
    noise = random.normal(0, 8, (height, width, 3))
    return np.clip(128 + 90 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("resolution", "count"), [(256, 2), (512, 1), (768, 1)])
def test_image_features_equal_those_of_transformers(reference, resolution, count):
    config = VisionConfig.from_dict(reference.config.vision_config.to_dict())
    assert config == seeing.NARROW
    tower = VisionTower(config).eval()
    tower.load_state_dict(reference.vision_tower.state_dict(), strict=True)
    embedder = MultimodalEmbedder(8, 48, 2048, 32)
    embedder.load_state_dict(reference.embed_vision.state_dict(), strict=True)
    shown = [torch.from_numpy(picture(90, 160, seed)) for seed in range(count)]
    pixels = torch.stack([prepare(page, resolution) for page in shown])
    with torch.no_grad():
        features = tower(pixels)
        ours = embedder.soft(features)
        found = reference.get_image_features(pixels)
    # They scale in place; the embedder's norm would hide whether that was done.
    scaled, theirs = found.last_hidden_state.flatten(2).transpose(1, 2), found.pooler_output
    torch.testing.assert_close(features, scaled, atol=1e-3, rtol=1e-4)
    assert ours.shape == (count, 256, 32)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    if count > 1:
        assert (ours[0] - ours[1]).abs().mean() > 0.05, "the eyes tell pictures apart"
    assert (ours[0, :-1] - ours[0, 1:]).abs().mean() > 0.02, "and places in them"


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("shape", [(90, 160), (768, 768), (1080, 1920), (333, 77)])
def test_pictures_are_prepared_as_the_official_processor_does(resolution, shape):
    processor = SiglipImageProcessor(
        image_mean=(0.5,) * 3,
        image_std=(0.5,) * 3,
        size={"height": resolution, "width": resolution},
        resample=2,
        do_normalize=False,
    )
    pixels = picture(*shape)
    theirs = processor(pixels, return_tensors="pt")["pixel_values"][0]
    ours = prepare(torch.from_numpy(pixels), resolution)
    assert ours.dtype == torch.float32 and ours.shape == (3, resolution, resolution)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_the_official_tower_gives_256_tokens_at_every_resolution():
    with torch.device("meta"):
        tower = VisionTower(VisionConfig())
        shapes = [tower(torch.empty(2, 3, R, R)).shape for R in RESOLUTIONS]
    assert shapes == [(2, 256, 2048)] * 3
    assert SOFT_TOKENS == IMAGE_TOKENS == 256
    assert 290e6 < sum(p.numel() for p in tower.parameters()) < 300e6
    assert all(name.startswith("timm_model.") for name in tower.state_dict())


@pytest.mark.parametrize("shape", [(3, 256, 256), (1, 3, 300, 300), (1, 3, 256, 512), (1, 1, 256)])
def test_pixels_of_another_shape_are_refused(shape):
    with torch.device("meta"):
        tower = VisionTower(seeing.NARROW)
        with pytest.raises(ValueError, match="resize pictures"):
            tower(torch.empty(shape))


def test_a_width_that_is_not_the_towers_is_refused():
    with torch.device("meta"):
        tower = VisionTower(VisionConfig(model_args=seeing.NARROW.model_args, hidden_size=64))
        with pytest.raises(ValueError, match="do not belong together"):
            tower(torch.empty(1, 3, 256, 256))


@pytest.mark.parametrize(
    "pixels, resolution, message",
    [
        (torch.zeros(4, 4, 3), 256, "expected a picture uint8"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), 256, "expected a picture uint8"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), 224, "resolution is 224: choose one of"),
    ],
)
def test_what_is_no_picture_is_refused(pixels, resolution, message):
    with pytest.raises(ValueError, match=message):
        prepare(pixels, resolution)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"architecture": "resnet50"}, "architecture must be one of timm's mobilenetv5"),
        ({"architecture": "hf-hub:someone/mobilenetv5"}, "architecture must be"),
        ({"model_args": {"checkpoint_path": "x"}}, "free of arguments that load weights"),
        ({"model_args": {"pretrained_cfg": {}}}, "free of arguments that load weights"),
        ({"model_args": [1]}, "model_args must be an object"),
        ({"hidden_size": 0}, "hidden_size must be"),
        ({"model_type": "siglip"}, "model_type must be"),
    ],
)
def test_impossible_configurations_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        VisionConfig.from_dict(values)


@pytest.mark.parametrize(
    "config",
    [VisionConfig("mobilenetv5_9000t"), VisionConfig(model_args={"colour": "blue"})],
)
def test_what_timm_cannot_build_says_so(config):
    with pytest.raises(ValueError, match="cannot build.*correct vision_config"):
        VisionTower(config)


def test_without_timm_the_error_says_what_to_install():
    script = (
        "import sys; sys.modules['timm'] = None\n"
        "from dragoman.encoders import VisionConfig, VisionTower\n"
        "try: VisionTower(VisionConfig())\n"
        "except ModuleNotFoundError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "needs timm: pip install timm" in done.stdout
