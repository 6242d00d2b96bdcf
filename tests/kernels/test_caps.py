"""Softcapping by our code against float64, and against torch's."""

import pytest
import torch

from dragoman.kernels import caps
from dragoman.kernels.caps import softcapped
from dragoman.kernels.rows import capping

HALF, FULL = torch.bfloat16, torch.float32


def make(dtype: torch.dtype, count: int = 2001) -> torch.Tensor:
    return torch.cat([torch.linspace(-300, 300, count), torch.randn(count)]).to(dtype)


def assert_close(y, x, cap):
    expected = cap * torch.tanh(x.double() / cap)
    assert y.dtype == FULL and y.shape == x.shape
    torch.testing.assert_close(y.double(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [HALF, FULL])
@pytest.mark.parametrize("cap", [3.0, 30.0])
@pytest.mark.parametrize("shape", [(1, 4002), (2, 3, 667), (4002,)])
def test_capped_to_rounding(dtype, cap, shape):
    x = make(dtype).view(shape)
    assert_close(softcapped(x, cap), x, cap)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_large_ones_by_several_threads(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x = make(HALF, caps.ALONE)[1:]
        assert_close(softcapped(x, 30.0), x, 30.0)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("half", [False, True])
def test_other_cpus(half, lanes):
    x = make(HALF if half else FULL)
    y = torch.empty(x.shape)
    capping(half, 30.0, lanes).run(2, y.data_ptr(), x.data_ptr(), len(x))
    assert_close(y, x, 30.0)


def test_what_is_not_a_number_stays_so():
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0]).to(HALF)
    y = softcapped(x, 30.0)
    assert y[0].isnan() and y[1:].tolist() == [30.0, -30.0, 0.0]


def test_gradients_and_other_layouts_are_left_to_torch():
    x = torch.randn(5, 7, requires_grad=True)
    softcapped(x, 30.0).sum().backward()
    assert x.grad is not None
    turned = make(HALF).view(2, -1).T
    assert torch.equal(softcapped(turned, 30.0), 30.0 * torch.tanh(turned.float() / 30.0))
    assert softcapped(torch.empty(0, 5), 30.0).shape == (0, 5)
