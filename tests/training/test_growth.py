"""A larger model begins where a smaller one stood."""

import random

import pytest
import torch

from dragoman.models.checkpoint import Checkpoint
from tests import nano_like
from tests.parts import layer
from tests.training.test_model import LONG, SHORT
from training.growth import take, weights_of
from training.model import Nano
from training.run import Average, Progress, Run, export


def larger(tokenizer, blocks: int, ffn: int) -> Nano:
    config = nano_like.config(tokenizer)
    config["audio_config"]["conf_num_hidden_layers"] = blocks
    config["text_config"]["intermediate_size"] = [ffn] * 6
    like = nano_like.module(tokenizer)
    return Nano(config, like.after, like.soft_token)


@pytest.fixture(scope="module")
def small(tokenizer) -> Nano:
    """A model whose weights are not those of a fresh one."""
    model = nano_like.module(tokenizer).eval()
    model.load_state_dict(nano_like.weights(tokenizer, seed=7))
    return model


@torch.no_grad()
def losses(model: Nano, batcher) -> torch.Tensor:
    got = model.losses(batcher([SHORT, LONG], random.Random(0)))
    return torch.stack((got.answer, got.letters, got.gathered))


def test_the_same_shape_is_the_same_model(small, tokenizer, batcher):
    other = nano_like.module(tokenizer)
    assert take(other, {n: p.detach() for n, p in small.named_parameters()}) == []
    torch.testing.assert_close(losses(other, batcher), losses(small, batcher), rtol=0, atol=0)


@pytest.mark.parametrize("blocks, ffn", [(4, 64), (2, 128), (3, 96)])
def test_a_larger_one_begins_nearly_as_good(small, tokenizer, batcher, blocks, ffn):
    torch.manual_seed(1)
    grown = larger(tokenizer, blocks, ffn)
    new = take(grown, {n: p.detach() for n, p in small.named_parameters()})
    assert bool(new) == (blocks > 2) and all(".conformer." in name for name in new)
    torch.testing.assert_close(losses(grown, batcher), losses(small, batcher), rtol=0.02, atol=0)


def test_what_is_new_can_learn(small, tokenizer, batcher):
    grown = larger(tokenizer, 3, 96)
    take(grown, {n: p.detach() for n, p in small.named_parameters()})
    grown.losses(batcher([SHORT, LONG], random.Random(0))).total(0.5).backward()
    new = [p.grad for n, p in grown.named_parameters() if n.startswith("audio_tower.conformer.2.")]
    assert all(grad is not None and grad.any() for grad in new)
    gradient = layer(grown.language_model, 1).mlp.down_proj.weight.grad
    assert gradient is not None and gradient[:, 64:].any()


def test_a_smaller_one_is_refused(small, tokenizer):
    with pytest.raises(ValueError, match="as large in everything"):
        take(larger(tokenizer, 2, 32), dict(small.named_parameters()))


def test_from_a_run_and_from_an_export(small, tokenizer, tmp_path):
    average = Average(small, 0.9)
    average.weights = {n: w + 1 for n, w in average.weights.items()}
    Run(tmp_path / "run").save(small, average, [], Progress())
    got = weights_of(tmp_path / "run")
    assert set(got) == {n for n, _ in small.named_parameters()}
    assert all(torch.equal(got[n], p + 1) for n, p in small.named_parameters())

    export(dict(small.named_parameters()), nano_like.config(tokenizer), tmp_path / "out")
    nano_like.train_tokenizer(tmp_path / "out" / "tokenizer.json")
    assert Checkpoint.open(str(tmp_path / "out")).language_model()
    exported, other = weights_of(tmp_path / "out"), nano_like.module(tokenizer)
    new = take(other, exported)
    assert {name.split(".")[0] for name in new} == {"letters", "gathered"}
    weight = other.language_model.embed_tokens.weight
    assert torch.equal(weight, small.language_model.embed_tokens.weight.bfloat16().float())


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="model.safetensors"):
        weights_of(tmp_path)
