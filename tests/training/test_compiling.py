"""The compiled parts of the model compute what the model itself does, forward and backward."""

import copy
import random

import pytest
import torch

from dragoman.models import prompt as prompts
from tests.training.test_batch import spoken
from training import nano
from training.batch import CHUNK_SAMPLES
from training.compiling import compile_parts
from training.model import Nano


@pytest.fixture(scope="module")
def models(tokenizer):
    prompt = prompts.build(tokenizer, "es", "en")
    torch.manual_seed(0)
    soft_token = tokenizer.special("<audio_soft_token>")
    shape = nano.Shape(audio_width=64, audio_blocks=1, width=128, layers=6, shared=1, ffn=128)
    model = Nano(nano.config(tokenizer, shape), prompt.after, soft_token)
    return model, copy.deepcopy(model)


def test_losses_and_gradients_are_the_same(models, batcher):
    own, compiled = models
    compile_parts(compiled, "eager")  # what is traced; C++ of it would take minutes
    for count in (1, 2):
        rows = [spoken(6 * CHUNK_SAMPLES, seed) for seed in range(count)]
        batch = batcher(rows, random.Random(count))
        losses = []
        for model in (own, compiled):
            model.zero_grad()
            loss = model.losses(batch).total(0.5)
            loss.backward()
            losses.append(loss.item())
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)
        theirs = dict(compiled.named_parameters())
        for name, parameter in own.named_parameters():
            if parameter.grad is not None:
                torch.testing.assert_close(
                    theirs[name].grad, parameter.grad, rtol=1e-3, atol=1e-5, msg=name
                )
