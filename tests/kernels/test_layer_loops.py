"""Each program of a decoder layer against its torch form in float64, at this CPU's width of vectors
and at that of others."""

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F

from dragoman.decoder.layers import AltUp, rotate
from dragoman.kernels import head_loops
from dragoman.kernels import layer_loops as loops
from tests.kernels.test_decoder_steps import WIDE

HALF, EPS, ROWS, D, A = torch.bfloat16, WIDE.rms_norm_eps, 3, 77, WIDE.altup_num_inputs
ACTIVE = WIDE.altup_active_idx
LANES = [None, 8, 16]


def draw(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(*shape, generator=generator)).to(HALF)


def at(*tensors: torch.Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x.double(), x.shape[-1:], weight.double(), EPS)


def assert_close(y: torch.Tensor, expected: torch.Tensor, steps: int = 2):
    """So many roundings to bf16, of numbers of the size of the largest."""
    bound = steps * 2**-8 * expected.abs().amax()
    assert ((y.double() - expected).abs() <= bound).all()


@pytest.fixture(scope="module")
def altup() -> AltUp:
    """In bf16, of width D."""
    module = AltUp(dataclasses.replace(WIDE, hidden_size=D))
    for i, parameter in enumerate(module.parameters()):
        parameter.data = draw(*parameter.shape, seed=i)
    return module.eval().requires_grad_(False)


def double(module: AltUp) -> AltUp:
    return copy.deepcopy(module).double()


@pytest.mark.parametrize("lanes", LANES)
def test_prediction(altup, lanes):
    streams, weight, normed = draw(ROWS, A, D), draw(D, seed=9), torch.empty(ROWS, D, dtype=HALF)
    expected = double(altup).predict(streams[None].double())[0]
    loops.predicting(A, ACTIVE, EPS, lanes).run(
        2, *at(streams, normed, altup.router_norm.weight, altup.modality_router.weight,
               altup.prediction_coefs.weight, weight), ROWS, D,
    )  # fmt: skip
    assert_close(streams, expected)
    assert_close(normed, norm(streams[:, ACTIVE], weight), 1)


@pytest.mark.parametrize("lanes", LANES)
def test_mixing(lanes):
    streams, attended, normed, raised = (
        draw(ROWS, A, D),
        *(draw(ROWS, D, seed=i) for i in (1, 2, 3)),
    )
    weights = [draw(D, seed=i) for i in (4, 5, 6)]
    mixed, after = (torch.empty(ROWS, D, dtype=HALF) for _ in range(2))
    loops.mixing(A, ACTIVE, EPS, lanes).run(
        2, *at(mixed, after, streams, attended, weights[0], normed, raised, *weights[1:]), ROWS, D
    )
    total = streams[:, ACTIVE].double() + norm(attended, weights[0]) + normed.double()
    assert_close(mixed, (total + norm(raised, weights[1])) * 0.5**0.5, 1)
    assert_close(after, norm(mixed, weights[2]), 1)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("scales", [False, True])
def test_correction(altup, scales, lanes):
    streams, mixed, fed = draw(ROWS, A, D), draw(ROWS, D, seed=1), draw(ROWS, D, seed=2)
    weight, before = draw(D, seed=3), streams.double()
    computed, scaled = (torch.empty(ROWS, D, dtype=HALF) for _ in range(2))
    loops.correcting(A, ACTIVE, EPS, scales, lanes).run(
        2, *at(streams, computed, scaled, mixed, fed, weight, altup.router_norm.weight,
               altup.modality_router.weight, altup.correction_coefs.weight,
               altup.correct_output_scale), ROWS, D,
    )  # fmt: skip
    assert_close(computed, mixed.double() + norm(fed, weight), 1)
    innovation = computed.double() - before[:, ACTIVE]
    expected = double(altup).correct(before[None], computed[None].double(), innovation[None])[0]
    assert_close(streams, expected)
    scale = altup.correct_output_scale.double() if scales else 1.0
    assert_close(scaled, expected[:, ACTIVE] * scale)


@pytest.mark.parametrize("lanes", LANES)
def test_adding_to_all_streams_but_the_first(lanes):
    streams, x, weight = draw(ROWS, A, D), draw(ROWS, D, seed=1), draw(D, seed=2)
    expected = streams.double()
    expected[:, 1:] += norm(x, weight)[:, None]
    loops.adding(A, EPS, lanes).run(2, *at(streams, x, weight), ROWS, D)
    assert_close(streams, expected)


@pytest.mark.parametrize("lanes", LANES)
def test_gating_with_rows_apart(lanes):
    gate, told, y = (
        draw(ROWS, D, scale=3.0),
        draw(ROWS, 5, D, seed=1),
        torch.empty(ROWS, D).to(HALF),
    )
    loops.gating(lanes).run(2, *at(y, gate, told[:, 2]), 5 * D, ROWS, D)
    assert_close(y, F.gelu(gate.double(), approximate="tanh") * told[:, 2].double(), 1)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("width", [40, 64, 77, 96])
@pytest.mark.parametrize("deviations", [None, 1.3])
def test_activation_of_a_width(deviations, width, lanes):
    gate, up, y = (
        draw(ROWS, 96, scale=3.0),
        draw(ROWS, 96, seed=1),
        torch.full((ROWS, 96), 7.0).to(HALF),
    )
    loops.activating(deviations, lanes).run(2, *at(y, gate, up), ROWS, width, 96)
    active = gate[:, :width].double()
    if deviations is not None:
        spread = active.std(-1, correction=0, keepdim=True)
        cutoff = (active.mean(-1, keepdim=True) + deviations * spread).to(HALF)
        active = F.relu(active - cutoff.double())
    assert_close(y[:, :width], F.gelu(active, approximate="tanh") * up[:, :width].double(), 1)
    assert not y[:, width:].any()


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("heads", [2, 5])
def test_norm_and_rotation_into_a_cache(heads, lanes):
    H, capacity, start = 48, 11, torch.tensor([4])
    x, weight = draw(ROWS, heads, H), draw(H, seed=1)
    cos, sin = draw(ROWS, H // 2, seed=2), draw(ROWS, H // 2, seed=3)
    cache = torch.full((heads, capacity, H), 7.0).to(HALF)
    tables = [table.double()[None, :, None] for table in (cos, sin)]
    normed = norm(x, weight)
    cases = {(True, True): rotate(normed[None], *tables)[0], (True, False): normed}
    cases[False, False] = norm(x, torch.ones(H))
    for (weighs, rotates), expected in cases.items():
        head_loops.turning(weighs, rotates, EPS, lanes).run(
            2, *at(cache, x, weight, cos, sin), ROWS, heads, H, capacity * H, H,
            start.data_ptr(),
        )  # fmt: skip
        assert_close(cache[:, 4 : 4 + ROWS].transpose(0, 1), expected)
        assert (cache[:, :4] == 7).all() and (cache[:, 4 + ROWS :] == 7).all()


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("window", [1, 5, 2**40])
@pytest.mark.parametrize("before", [0, 3, 70])
def test_attention(before, window, lanes):
    """What lies beyond the last position is not a number, and must not matter."""
    N, group, H, capacity = 4, 2, 32, before + ROWS + 2
    queries, start = draw(ROWS, N, H), torch.tensor([before])
    keys, values = (draw(N // group, capacity, H, seed=i) for i in (1, 2))
    keys[:, before + ROWS :] = values[:, before + ROWS :] = torch.nan
    y, scores = torch.empty(ROWS, N, H, dtype=HALF), torch.empty(2, capacity)
    head_loops.attending(H, lanes).run(
        2, *at(y, queries, keys, values, scores), ROWS, N, group, capacity * H, start.data_ptr(),
        window, capacity,
    )  # fmt: skip
    places = torch.arange(before + ROWS)
    distance = (before + torch.arange(ROWS))[:, None] - places
    mask = torch.zeros(distance.shape).double()
    mask = mask.masked_fill((distance < 0) | (distance >= window), -torch.inf)
    expected = F.scaled_dot_product_attention(
        queries.double().transpose(0, 1)[None],
        *(x[:, : before + ROWS].double()[None] for x in (keys, values)),
        attn_mask=mask, scale=1.0, enable_gqa=True,
    )[0].transpose(0, 1)  # fmt: skip
    assert_close(y, expected, 1)
