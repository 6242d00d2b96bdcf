"""Gates and sparse layers against torch, with the same rounding between the steps."""

from concurrent.futures import ThreadPoolExecutor
from statistics import NormalDist

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.kernels import gates
from dragoman.kernels.gates import gated, sparse_mlp

HALF = torch.bfloat16
DEVIATIONS = NormalDist().inv_cdf(0.95)


def make(tokens, width=1024, inputs=256, outputs=512, seed=0):
    """gate, x, up, down."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((tokens, width), (tokens, inputs), (width, inputs), (outputs, width))
    gate, x, up, down = (torch.randn(shape, generator=generator).to(HALF) for shape in shapes)
    return gate, x, up, down


def sparse(gate, x, up, down, deviations=DEVIATIONS) -> torch.Tensor:
    """What our code makes of it, which must be something."""
    y = sparse_mlp(gate, x, up, down, deviations)
    assert y is not None
    return y


def hidden(gate, x, up, deviations=DEVIATIONS, nudge=0.0):
    """What the down weights meet, float64: rounded to bf16 where torch rounds. With `nudge` each
    row's cutoff is moved by that share before it is rounded.
    """
    variance, mean = torch.var_mean(gate.double(), dim=-1, correction=0, keepdim=True)
    cutoff = (mean + deviations * variance.sqrt()) * (1 + nudge)
    raised = (x.double() @ up.double().T).to(HALF)
    return (F.gelu(F.relu(gate - cutoff.to(HALF)), approximate="tanh") * raised).double()


def assert_close(y, gate, x, up, down, deviations=DEVIATIONS):
    """Within the rounding of y, and of every product with x, which may go either way; so may a
    row's cutoff where the order of its sum decides.
    """
    close = torch.zeros(len(y), dtype=torch.bool)
    for nudge in (-1e-6, 1e-6):
        values = hidden(gate, x, up, deviations, nudge)
        bound = (values.abs() @ down.double().abs().T) / 128 + 1e-6
        close |= ((y.double() - values @ down.double().T).abs() <= bound).all(1)
    assert close.all()


def test_a_gate_and_what_passes_it():
    gate = torch.cat([torch.linspace(-40, 40, 4095), torch.randn(4001) * 2]).to(HALF)
    up = torch.randn(len(gate)).to(HALF)
    expected = F.gelu(gate, approximate="tanh") * up
    torch.testing.assert_close(gated(gate, up), expected, rtol=2**-7, atol=1e-6)


@pytest.mark.parametrize("lanes", [8, 16])
def test_gates_on_other_cpus(lanes):
    from dragoman.kernels.gate_loops import gating

    gate, up = torch.randn(2, 5, 64).to(HALF)
    y = torch.empty_like(gate)
    gating(lanes).run(1, y.data_ptr(), gate.data_ptr(), up.data_ptr(), gate.numel())
    torch.testing.assert_close(y, F.gelu(gate, approximate="tanh") * up, rtol=2**-7, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 5), (0, 64)])
@pytest.mark.parametrize("dtype", [HALF, torch.float32])
def test_other_gates_are_left_to_torch(shape, dtype):
    gate, up = torch.randn(2, *shape).to(dtype)
    assert torch.equal(gated(gate, up), F.gelu(gate, approximate="tanh") * up)


def test_gradients_of_gates_flow():
    gate, up = torch.randn(2, 4, 16).to(HALF)
    gated(gate.requires_grad_(), up).sum().backward()
    assert gate.grad is not None


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(8, 50),
    blocks=st.integers(16, 26),
    tiles=st.integers(1, 3),
    threads=st.integers(1, 3),
    share=st.sampled_from([0.8, 0.95, 0.999]),
)
def test_any_shape_and_number_of_threads(tokens, blocks, tiles, threads, share):
    tensors = make(tokens, 64 * blocks, 384, 256 * tiles, seed=tokens)
    deviations = NormalDist().inv_cdf(share)
    torch.set_num_threads(threads)
    y = sparse(*tensors, deviations)
    assert_close(y, *tensors, deviations)


@pytest.mark.parametrize("tokens", [1, 2, 19])
@pytest.mark.parametrize("lanes", [8, 16])
def test_sparse_layers_on_other_cpus(tokens, lanes):
    """Any CPU can. What this one chooses is what all other tests run."""
    tensors = make(tokens)
    y = torch.empty(tokens, 512, dtype=HALF)
    assert gates.sparse_part(y, *tensors, DEVIATIONS, gates.Sparse(lanes, pairs=False))
    assert_close(y, *tensors)


def test_slices_of_larger_matrices():
    """Behind the views lies what must not be read."""
    gate, x, up, down = make(9)
    wide_up = torch.full((1500, 256), torch.nan, dtype=HALF)
    wide_down = torch.full((512, 1500), torch.nan, dtype=HALF)
    wide_up[:1024], wide_down[:, :1024] = up, down
    y = sparse(gate, x, wide_up[:1024], wide_down[:, :1024])
    assert torch.equal(y, sparse(gate, x, up, down))


def test_many_tokens_go_in_parts(monkeypatch):
    tensors = make(37)
    whole = sparse(*tensors)
    monkeypatch.setattr(gates, "PART_TOKENS", 10)
    assert torch.equal(sparse(*tensors), whole)
    gate, x, up, down = tensors
    rows = sparse(gate.view(1, 37, -1), x.view(1, 37, -1), up, down)
    assert torch.equal(rows[0], whole)


def test_open_gates_may_lie_anywhere():
    gate, x, up, down = make(12)
    gate.zero_()
    gate[0, -1] = gate[1, 0] = 5.0  # a list may have one unit
    gate[2, 64:192] = 5.0  # or whole blocks
    gate[3] = 0.0  # or none
    y = sparse(gate, x, up, down)
    assert_close(y, gate, x, up, down)
    assert not y[3:].any() and y[:3].any(1).all()


def test_too_many_open_gates_are_left_to_torch():
    gate, x, up, down = make(16)
    assert sparse_mlp(gate, x, up, down, -DEVIATIONS) is None
    gate[:6] = torch.nan
    assert sparse_mlp(gate, x, up, down, DEVIATIONS) is None


def test_what_is_not_a_number_is_not_lost():
    gate, x, up, down = make(16)
    gate[5, 7] = torch.nan
    wrong = sparse(gate, x, up, down).isnan()
    assert wrong[5].all() and wrong.sum() == 512


def test_what_does_not_fit_is_left_to_torch():
    gate, x, up, down = make(8)
    assert sparse_mlp(gate[:7], x[:7], up, down, DEVIATIONS) is None  # few
    assert sparse_mlp(gate[:, :512], x, up, down, DEVIATIONS) is None  # narrow
    assert sparse_mlp(gate, x, up, down[:300], DEVIATIONS) is None
    assert sparse_mlp(gate, x[:, :200].contiguous(), up[:, :200], down, DEVIATIONS) is None
    assert sparse_mlp(gate.float(), x.float(), up.float(), down.float(), DEVIATIONS) is None
    assert sparse_mlp(gate.requires_grad_(), x, up, down, DEVIATIONS) is None
    with torch.no_grad():
        assert sparse_mlp(gate, x, up, down, DEVIATIONS) is not None


def test_sessions_in_threads_of_their_own():
    many = [make(8 + n, seed=n) for n in range(4)]
    alone = [sparse(*tensors) for tensors in many]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda tensors: sparse(*tensors), many * 4))
    for mine, theirs in zip(together, alone * 4, strict=True):
        assert torch.equal(mine, theirs)
