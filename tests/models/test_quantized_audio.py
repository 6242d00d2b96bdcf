"""An audio tower with its matrices in int8: what it holds, computes, and who asks for it."""

import copy
from dataclasses import replace

import pytest
import torch

from dragoman.decoder import storage
from dragoman.decoder.quantize import QuantizedLinear
from dragoman.errors import CheckpointError
from dragoman.models.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def checkpoint(tiny_folder) -> Checkpoint:
    return Checkpoint.open(str(tiny_folder))


def matrices(tower: torch.nn.Module) -> dict[str, QuantizedLinear]:
    return {n: part for n, part in tower.named_modules() if isinstance(part, QuantizedLinear)}


def test_it_hears_what_its_numbers_stand_for(checkpoint):
    tower = checkpoint.audio_encoder(form="int8").double()
    plain = copy.deepcopy(checkpoint.audio_encoder()).double()
    before = [parameter.clone() for parameter in plain.parameters()]
    found = matrices(tower)
    for name, part in found.items():
        whole = storage.unpacked(part.form, part.weight, part.scale, torch.float64)
        plain.get_submodule(name).get_parameter("weight").copy_(whole)
    assert {part.form for part in found.values()} == {"int8"}
    assert len(found) == 1 + 10 * len(tower.conformer)
    changed = sum(not a.equal(b) for a, b in zip(before, plain.parameters(), strict=True))
    assert changed == len(found)
    mel = torch.randn(1, 96, 128, generator=torch.Generator().manual_seed(0)).double()
    with (
        torch.inference_mode()
    ):  # in float64, which no kernel takes: the order of sums does not show
        torch.testing.assert_close(tower(mel), plain(mel), rtol=1e-6, atol=1e-6)


def test_what_is_no_matrix_stays_as_it_is_stored(checkpoint):
    tower, plain = checkpoint.audio_encoder(form="int8"), checkpoint.audio_encoder()
    expected = dict(plain.named_parameters())
    names = {f"{name}.weight" for name in matrices(tower)}
    assert {name for name, _ in tower.named_parameters()} == expected.keys() - names
    assert all(expected[name].equal(value) for name, value in tower.named_parameters())


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_a_form_may_ask_for_it(checkpoint, form):
    assert checkpoint.audio_form(form) == "bf12" and checkpoint.audio_form("bf16") is None
    assert checkpoint.audio_form(f"{form}+audio") == "int8"
    scheme = checkpoint.scheme(form)
    assert scheme and checkpoint.scheme(f"{form}+audio") == replace(scheme, audio="int8")
    assert checkpoint.dtype(f"{form}+audio") == checkpoint.dtype(form)


def test_only_quantized_forms_may(checkpoint):
    with pytest.raises(CheckpointError, match=r"no weights of the form 'bf16\+audio'"):
        checkpoint.dtype("bf16+audio")
