"""The optimizers share the parameters, and one bad step cannot spoil them."""

import torch

from tests import nano_like
from training.muon import GroupedMuon
from training.optimizing import optimizers, set_rate


def test_every_parameter_has_one_optimizer(tokenizer):
    model = nano_like.module(tokenizer)
    names = {parameter: name for name, parameter in model.named_parameters()}
    adam, muon = ([names[p] for g in one.param_groups for p in g["params"]]
                  for one in optimizers(model, muon=True))  # fmt: skip
    assert sorted(adam + muon) == sorted(names.values())
    shapes = dict(model.named_parameters())
    assert all(shapes[name].dim() == 2 for name in muon)
    assert "language_model.layers.0.mlp.gate_proj.weight" in muon
    assert "audio_tower.conformer.0.ffw_layer_start.ffw_layer_1.weight" in muon
    assert {"language_model.embed_tokens.weight", "letters.weight"} <= set(adam)
    (alone,) = optimizers(model, muon=False)
    assert sum(len(group["params"]) for group in alone.param_groups) == len(names)


def test_vectors_do_not_decay(tokenizer):
    model = nano_like.module(tokenizer)
    adam, _ = optimizers(model, muon=True)
    for group in adam.param_groups:
        vectors = {p.dim() <= 1 for p in group["params"]}
        assert vectors == {group["weight_decay"] == 0.0}


def test_a_rate_is_a_share_of_each_peak(tokenizer):
    found = optimizers(nano_like.module(tokenizer), muon=True)
    peaks = [group["lr"] for one in found for group in one.param_groups]
    for share in (0.5, 0.25):
        set_rate(found, share)
        rates = [group["lr"] for one in found for group in one.param_groups]
        assert torch.allclose(torch.tensor(rates), torch.tensor(peaks) * share)


def test_matrices_of_one_shape_step_together_as_they_would_alone():
    torch.manual_seed(0)
    shapes = [(24, 16), (16, 24), (24, 16), (8, 8)]
    alone = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    together = [torch.nn.Parameter(one.detach().clone()) for one in alone]
    how = "match_rms_adamw"
    pair = (
        torch.optim.Muon(alone, lr=0.02, weight_decay=0.1, adjust_lr_fn=how),
        GroupedMuon(together, lr=0.02, weight_decay=0.1, adjust_lr_fn=how),
    )
    for _ in range(3):
        for a, b in zip(alone[:3], together[:3], strict=True):  # the last has no gradient
            a.grad = torch.randn(a.shape)
            b.grad = a.grad.clone()
        for optimizer in pair:
            optimizer.step()
    for a, b in zip(alone, together, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-3)  # rounded to bfloat16 on the way
        assert torch.equal(pair[0].state[a].get("momentum_buffer", a),
                           pair[1].state[b].get("momentum_buffer", b))  # fmt: skip
