"""exp and what is made of it against float64, over all that float32 can hold."""

import pytest
import torch

from dragoman.kernels import functions
from dragoman.kernels.compiler import Kernel, lanes
from dragoman.kernels.rows import Numbers, each

EXACT = {
    "exp": torch.exp,
    "sigmoid": torch.sigmoid,
    "silu": torch.nn.functional.silu,
    "tanh": torch.tanh,
}


def run(name: str, x: torch.Tensor, width: int) -> torch.Tensor:
    """The function of every entry, `width` lanes at a time, and by ones what is left."""
    function = getattr(functions, name)

    def write(b):
        source, target = Numbers(b, False, "x"), Numbers(b, False, "y")
        each(b, b.given["count"], lambda i, n: target.write(function(b, source.read(i, n)), i))

    y = torch.empty_like(x)
    Kernel(("x", "y", "count"), write, width).run(1, x.data_ptr(), y.data_ptr(), x.numel())
    return y


def spread() -> torch.Tensor:
    """Both signs, from nearly nothing to where the functions have ended, and around zero."""
    sizes = torch.logspace(-20, 1.93, 4001)  # to 85
    return torch.cat([-sizes, sizes, torch.linspace(-3, 3, 4001), torch.zeros(1)])


@pytest.mark.parametrize("width", [8, 16])
@pytest.mark.parametrize("name", list(EXACT))
def test_functions_are_exact_to_a_few_units(name, width):
    x = spread()
    y, expected = run(name, x, width).double(), EXACT[name](x.double())
    assert ((y - expected).abs() <= 5 * 2**-24 * expected.abs()).all()


@pytest.mark.parametrize("name", list(EXACT))
def test_ends_and_what_is_not_a_number(name):
    inf = torch.inf
    x = torch.tensor([-inf, -3e38, -1e3, 1e3, 3e38, inf, torch.nan])
    y = run(name, x, lanes())
    assert y[-1].isnan()
    low, high = {"exp": (0, 1e38), "sigmoid": (0, 1), "tanh": (-1, 1), "silu": (0, 1e3)}[name]
    if name == "silu":
        assert y[2].abs() < 1e-30 and y[3] == 1e3
    else:
        assert ((y[:3] - low).abs() < 1e-30).all() and (y[3:6] >= high).all()
