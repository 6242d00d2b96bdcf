"""Norms by our code against the same in float64, and against torch's."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.kernels import norms, rms_norm, rows

HALF, FULL = torch.bfloat16, torch.float32
EPS = 1e-6


@pytest.fixture(autouse=True)
def threads():
    """Tests may change the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def exact(x, weight, eps=EPS):
    x = x.double()
    y = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    return y if weight is None else y * weight.double()


def assert_close(y, expected):
    """One rounding to y's type, behind a few of float32."""
    bound = 2e-6 + (2**-8 if y.dtype == HALF else 0.0)
    assert ((y.double() - expected).abs() <= bound * expected.abs() + 1e-12).all()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 5),
    width=st.one_of(st.integers(1, 200), st.sampled_from([256, 2048])),
    dtype=st.sampled_from([HALF, FULL]),
    weight=st.sampled_from([HALF, FULL, None]),
    threads=st.integers(1, 3),
)
def test_norms_are_exact_to_rounding(rows, width, dtype, weight, threads):
    generator = torch.Generator().manual_seed(rows * width)
    x = (3 * torch.randn(rows, width, generator=generator)).to(dtype)
    if weight is not None:
        weight = torch.randn(width, generator=generator).to(weight)
    torch.set_num_threads(threads)
    y = rms_norm(x, weight, EPS)
    assert y.dtype == dtype and y.shape == x.shape
    assert_close(y, exact(x, weight))
    assert_close(norms._by_torch(x, weight, EPS), exact(x, weight))


def test_it_is_our_code_that_is_tested(monkeypatch):
    monkeypatch.setattr(norms, "_by_torch", None)
    rms_norm(torch.randn(3, 64).to(HALF), torch.ones(64), EPS)
    with torch.inference_mode():
        rms_norm(torch.randn(3, 64).to(HALF), torch.ones(64, requires_grad=True), EPS)


@pytest.mark.parametrize("dtype", [HALF, FULL])
def test_many_rows_over_all_threads(dtype):
    x, weight = torch.randn(7, 11, 2048).to(dtype), torch.randn(2048).to(dtype)
    assert x.numel() > norms.ALONE
    answers = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        answers.append(rms_norm(x, weight, EPS))
    assert_close(answers[0], exact(x, weight))
    assert torch.equal(answers[0], answers[1]) and torch.equal(answers[0], answers[2])
    alone = torch.stack([rms_norm(row, weight, EPS) for row in x.flatten(0, 1)])
    assert torch.equal(alone.view_as(x), answers[0])


def test_rows_apart_and_turned():
    x = torch.randn(1, 6, 4, 96).to(HALF)
    assert torch.equal(rms_norm(x[:, :, 2], None, EPS), rms_norm(x[:, :, 2].clone(), None, EPS))
    several = torch.randn(3, 6, 4, 96)[:, ::2, 1:3]
    assert torch.equal(rms_norm(several, None, EPS), rms_norm(several.clone(), None, EPS))
    turned = torch.randn(96, 5).T
    assert torch.equal(rms_norm(turned, None, EPS), rms_norm(turned.contiguous(), None, EPS))
    one = torch.randn(10, 3)[:, 1]
    assert torch.equal(rms_norm(one, None, EPS), rms_norm(one.clone(), None, EPS))
    assert rms_norm(x[:0], None, EPS).shape == (0, 6, 4, 96)


def test_eps_keeps_silence_finite():
    assert torch.equal(rms_norm(torch.zeros(2, 40), None, EPS), torch.zeros(2, 40))
    x = torch.full((1, 40), 1e-4)
    assert_close(rms_norm(x, None, 1e-2), exact(x, None, 1e-2))


@pytest.mark.parametrize("width", [8, 16])
@pytest.mark.parametrize("half", [False, True])
def test_what_other_cpus_run(width, half):
    dtype = HALF if half else FULL
    x, weight, y = torch.randn(3, 77).to(dtype), torch.randn(77), torch.empty(3, 77, dtype=dtype)
    program = rows.norm(half, False, EPS, width)
    program.run(1, y.data_ptr(), x.data_ptr(), weight.data_ptr(), 3, 77, 77)
    assert_close(y, exact(x, weight))


def test_gradients_flow_where_they_are_wanted():
    x = torch.randn(2, 32, requires_grad=True)
    weight = torch.randn(32, dtype=HALF, requires_grad=True)
    rms_norm(x, weight, EPS).sum().backward()
    expected = x.detach().clone().requires_grad_()
    F.rms_norm(expected, (32,), weight.detach().float(), EPS).sum().backward()
    assert x.grad is not None and expected.grad is not None and weight.grad is not None
    torch.testing.assert_close(x.grad, expected.grad)
    only = torch.randn(32, requires_grad=True)
    rms_norm(torch.randn(2, 32), only, EPS).sum().backward()
    assert only.grad is not None


def test_other_types_and_devices_are_torch_s():
    x = torch.randn(2, 32, dtype=torch.float64)
    assert_close(rms_norm(x, None, EPS), exact(x, None))
    assert rms_norm(torch.empty(2, 32, device="meta"), None, EPS).shape == (2, 32)
