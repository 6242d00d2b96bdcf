"""Live steps that are one call against the same block by block, in bf16, bf12 and int8."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dragoman.decoder.quantize import QuantizedLinear, quantized
from dragoman.encoders import AudioConfig, AudioEncoder, split_state, stack_states
from dragoman.encoders.conformer import ConformerBlock
from dragoman.kernels import accelerate, encoder_steps, loops, products
from dragoman.kernels.encoder_steps import Steps
from dragoman.models.quantized import tower_plan
from tests.encoders.helpers import noise, randomize, tiny_encoder
from tests.parts import blocks
from tests.streaming import relative_error, split

HALF = torch.bfloat16
WIDE = AudioConfig(
    hidden_size=128,
    conf_num_attention_heads=2,
    conf_num_hidden_layers=2,
    conf_attention_context_left=7,
    conf_attention_logit_cap=3.0,
    conf_conv_kernel_size=4,
    conf_residual_weight=0.7,
    gradient_clipping=2.5,
    rms_norm_eps=1e-2,
    input_feat_size=16,
    sscp_conv_channel_size=(4, 8),
)
FORMS = ("bf16", "bf12", "int8")


@torch.no_grad()
def make(form: str = "bf16", seed: int = 0) -> AudioEncoder:
    return accelerate(define(form, seed))


@torch.no_grad()
def define(form: str = "bf16", seed: int = 0) -> AudioEncoder:
    encoder = AudioEncoder(WIDE)
    randomize(encoder, seed)
    encoder = encoder.to(HALF).eval()
    for path, chosen in tower_plan(encoder, None if form == "bf16" else form).items():
        parent, _, last = path.rpartition(".")
        part = QuantizedLinear(chosen, *quantized(chosen, encoder.get_parameter(f"{path}.weight")))
        setattr(encoder.get_submodule(parent), last, part)
    return encoder


ENCODERS = {form: make(form) for form in FORMS}


@pytest.fixture(params=FORMS)
def encoder(request) -> AudioEncoder:
    return ENCODERS[request.param]


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def plain(function):
    """Calls a function without recordings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Steps, "run", lambda *_: None)
        return function()


def heard(encoder: AudioEncoder, pieces: list[Tensor], finish: bool = True) -> Tensor:
    """The soft tokens of pieces, the last of which ends the input."""
    state, out = encoder.init_state(pieces[0].shape[0]), []
    for piece in pieces[:-1]:
        y, state = encoder.step(piece, state)
        out.append(y)
    return torch.cat([*out, encoder.finish(pieces[-1], state)], dim=1)


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(0, 40), max_size=8), frames=st.integers(1, 120),
    rows=st.integers(1, 3), form=st.sampled_from(FORMS), threads=st.integers(1, 3),
)  # fmt: skip
def test_the_same_bits_however_the_sound_is_cut(lengths, frames, rows, form, threads):
    encoder, pieces = ENCODERS[form], split(noise(rows, frames, 16, scale=2.0), lengths)
    torch.set_num_threads(threads)
    with torch.no_grad():
        ours, theirs = heard(encoder, pieces), plain(lambda: heard(encoder, pieces))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("frames", [9, 15, 16])
def test_on_a_cpu_without_pairs_of_bf16(frames, monkeypatch):
    """Where each product lays the rows of x out in scratch memory, in which products that nobody
    waits between must not meet."""
    encoder = make()
    caches = (products.multiplying, loops.product)
    monkeypatch.setattr(loops, "has_pairs", lambda: False)
    for cache in caches:
        cache.cache_clear()
    torch.set_num_threads(2)
    try:
        expected, states = (
            noise(1, frames, WIDE.hidden_size).to(HALF),
            encoder.init_state(1, dtype=HALF).blocks,
        )
        for block, state in zip(blocks(encoder), states, strict=True):
            expected, _ = block.step(expected, state)
        for _ in range(20):
            (found, _) = step(encoder, 1, frames) or (None, None)
            assert found is not None and torch.equal(found, expected)
    finally:
        for cache in caches:
            cache.cache_clear()


def test_as_near_to_exact_as_the_definition_in_bf16():
    """Both round to bf16 at dozens of places; so each is compared with float64."""
    encoder, pieces = define(), list(noise(1, 96, 16).split(16, dim=1))
    exact = heard(copy.deepcopy(encoder).double(), pieces)
    ours, theirs = heard(ENCODERS["bf16"], pieces), heard(encoder, pieces)
    assert not torch.equal(ours, theirs)  # two ways indeed
    errors = [(found - exact).square().mean().sqrt() for found in (ours, theirs)]
    assert errors[0] < 1.2 * errors[1]


def test_live_steps_go_through_it(encoder, monkeypatch):
    """And nothing else: no block is stepped, not even for a batch or at the end."""
    monkeypatch.setattr(ConformerBlock, "step", None)
    heard(encoder, list(noise(1, 64, 16).split(16, dim=1)))
    heard(encoder, list(noise(4, 64, 16).split(16, dim=1)))
    assert 0 < len(recorded(encoder).recordings) <= encoder_steps.KEPT


def test_sessions_together_equal_each_alone(encoder):
    """States are stacked and taken apart between steps; other rows may hold anything."""
    clips = [noise(1, 96, 16, seed=n, scale=10.0**n) for n in range(3)]
    alone = [heard(encoder, list(clip.split(16, dim=1))) for clip in clips]
    states, found = [encoder.init_state(1) for _ in clips], [[] for _ in clips]
    for turn in range(6):
        pieces = torch.cat([clip[:, 16 * turn : 16 * (turn + 1)] for clip in clips])
        y, after = encoder.step(pieces, stack_states(states))
        states = split_state(after)
        for mine, row in zip(found, y, strict=True):
            mine.append(row[None])
    for n, state in enumerate(states):
        found[n].append(encoder.flush(state))
        assert relative_error(torch.cat(found[n], dim=1), alone[n]) < 1e-2


def test_a_state_may_go_on_by_the_layers_and_come_back(encoder):
    pieces = list(noise(1, 96, 16).split(16, dim=1))
    whole = heard(encoder, pieces)
    state, out = encoder.init_state(1), []
    for n, piece in enumerate(pieces[:-1]):

        def step(piece=piece, state=state):
            return encoder.step(piece, state)

        y, state = step() if n % 2 else plain(step)
        out.append(y)
    assert torch.equal(torch.cat([*out, encoder.finish(pieces[-1], state)], dim=1), whole)


def test_modes_take_turns(encoder):
    """What was made in inference mode is written outside of it."""
    pieces = list(noise(1, 48, 16).split(16, dim=1))
    fresh = copy.deepcopy(encoder)
    with torch.inference_mode():
        inside = heard(fresh, pieces)
    assert torch.equal(heard(fresh, pieces), inside)


def test_other_weights_are_heard():
    encoder, other = make(), make(seed=1)
    pieces = list(noise(1, 48, 16).split(16, dim=1))
    first, expected = heard(encoder, pieces), heard(other, pieces)
    assert not torch.equal(first, expected)
    name = "conformer.1.ffw_layer_end.ffw_layer_2"
    mine = encoder.get_submodule(name)
    encoder.get_submodule("conformer.1.ffw_layer_end").ffw_layer_2 = other.get_submodule(name)
    mixed = heard(encoder, pieces)
    assert not torch.equal(mixed, first)
    assert torch.equal(mixed, plain(lambda: heard(encoder, pieces)))
    encoder.get_submodule("conformer.1.ffw_layer_end").ffw_layer_2 = mine
    encoder.load_state_dict(other.state_dict())
    assert torch.equal(heard(encoder, pieces), expected)
    for parameter in encoder.conformer.parameters():
        parameter.data = 0.5 * parameter.data
    halved = heard(encoder, pieces)
    assert not torch.equal(halved, expected)
    assert torch.equal(halved, plain(lambda: heard(encoder, pieces)))


@pytest.mark.parametrize(
    "name", ["attention.attn.per_dim_scale", "lconv1d.depthwise_conv1d.weight",
             "attention.attn.relative_position_embedding.pos_proj.weight"],
)  # fmt: skip
def test_weights_changed_in_place_are_heard(name):
    encoder, pieces = make(), list(noise(1, 48, 16).split(16, dim=1))
    first = heard(encoder, pieces)
    encoder.get_parameter(f"conformer.1.{name}").mul_(-2.0)
    changed = heard(encoder, pieces)
    assert not torch.equal(changed, first)
    assert torch.equal(changed, plain(lambda: heard(encoder, pieces)))


def test_a_copy_has_recordings_of_its_own(encoder):
    pieces = list(noise(1, 48, 16).split(16, dim=1))
    expected, copied = heard(encoder, pieces), copy.deepcopy(encoder)
    assert torch.equal(heard(copied, pieces), expected)
    assert recorded(copied) is not recorded(encoder)


def recorded(encoder: AudioEncoder) -> Steps:
    assert isinstance(encoder, encoder_steps.QuickAudioEncoder)
    return encoder.recorded


def step(encoder: AudioEncoder, streams: int, frames: int, dtype: torch.dtype = HALF):
    blocks = encoder.conformer
    states = encoder.init_state(streams, dtype=dtype).blocks
    x = noise(streams, frames, encoder.config.hidden_size).to(dtype)
    return recorded(encoder).run(blocks, x, states)


def test_what_it_does_not_serve():
    encoder = ENCODERS["bf16"]
    assert (
        step(encoder, 1, encoder_steps.MOST) is not None
        and step(encoder, encoder_steps.MOST, 1) is not None
    )
    assert step(encoder, 1, encoder_steps.MOST + 1) is None and step(encoder, 1, 0) is None
    assert step(accelerate(tiny_encoder()), 1, 4, torch.float32) is None
    assert step(accelerate(tiny_encoder().to(HALF)), 1, 4) is None  # 16 inputs
    assert step(copy.deepcopy(encoder).float(), 1, 4) is None
    with torch.enable_grad():
        assert step(encoder, 1, 4) is None


def test_few_recordings_are_kept(monkeypatch):
    monkeypatch.setattr(encoder_steps, "KEPT", 2)
    encoder = make()
    for frames in range(1, 5):
        step(encoder, 1, frames)
    assert list(recorded(encoder).recordings) == [(1, 3), (1, 4)]
