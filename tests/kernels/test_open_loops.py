"""The way up through open gates against torch in float64, at this CPU's width of vectors and at
that of others."""

from statistics import NormalDist

import pytest
import torch
import torch.nn.functional as F

from dragoman.kernels import available, twelve
from dragoman.kernels.open_loops import MOST_ROWS, raising_open, scratch_bytes
from dragoman.kernels.products import beside
from tests.kernels.test_twelve import spread_out

HALF = torch.bfloat16
DEVIATIONS = NormalDist().inv_cdf(0.95)
CPUS = [(None, None), (8, False), (16, False)]
pytestmark = pytest.mark.skipif(not available(), reason="no code can be made on this machine")


def make(rows: int, width: int, inputs: int = 96):
    """gate [rows, stride], x [rows, inputs], weight [width, inputs] between rows that are not to be
    read; beyond the width gates would be open."""
    generator = torch.Generator().manual_seed(rows)
    stride = width + -width % 32
    gate, x, weight = (
        torch.randn(shape, generator=generator).to(HALF)
        for shape in ((rows, stride), (rows, inputs), (width, inputs))
    )
    gate[:, width:] = 1e4
    wide = torch.full((stride + 5, inputs + 32), torch.nan, dtype=HALF)
    wide[:width, :inputs] = weight
    return gate, x, wide[:width, :inputs]


def raised(gate, x, weight, cpu=(None, None), threads=2, deviations=DEVIATIONS) -> torch.Tensor:
    (rows, stride), (width, inputs) = gate.shape, weight.shape
    y = torch.full_like(gate, 7.0)
    scratch = torch.full((threads * scratch_bytes(stride),), 255, dtype=torch.uint8)
    raising_open(deviations, "bf16", *cpu).run(
        threads, y.data_ptr(), gate.data_ptr(), x.data_ptr(), weight.data_ptr(),
        2 * weight.stride(0), scratch.data_ptr(), rows, width, stride, inputs,
    )  # fmt: skip
    assert not y[:, width:].any()
    return y[:, :width]


def expected(gate, x, weight, deviations=DEVIATIONS) -> torch.Tensor:
    gate = gate[:, : len(weight)].double()
    spread = gate.std(-1, correction=0, keepdim=True)
    beyond = gate - (gate.mean(-1, keepdim=True) + deviations * spread).to(HALF).double()
    return F.gelu(F.relu(beyond), approximate="tanh") * (x.double() @ weight.double().T)


def assert_close(y, gate, x, weight, deviations=DEVIATIONS):
    """Zeros where zeros are expected, and elsewhere two roundings to bf16."""
    wanted = expected(gate, x, weight, deviations)
    assert torch.equal(y == 0, wanted == 0)
    sums = x.double().abs() @ weight.double().abs().T
    bound = 2**-7 * wanted.abs() + 2**-20 * sums
    assert ((y.double() - wanted).abs() <= bound).all()


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("width", [33, 77, 160, 1024])
@pytest.mark.parametrize("rows", [1, 3, 16, MOST_ROWS])
def test_any_rows_of_any_width(rows, width, cpu):
    tensors = make(rows, width)
    y = raised(*tensors, cpu)
    assert y.any()
    assert_close(y, *tensors)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("inputs", [32, 64, 128, 288])
def test_any_inputs(inputs, cpu):
    tensors = make(3, 200, inputs)
    assert_close(raised(*tensors, cpu), *tensors)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("rows", [1, 5, 16])
def test_weights_of_12_bits(rows, cpu):
    """The same numbers, but for the order of sums."""
    gate, x, _ = make(rows, 77, 384)
    weight = spread_out(77, 384)
    weight[0], gate[:, 1:3] = 0.0, 4.0  # where weights lie far apart
    codes, rest = twelve.packed(weight)
    y, scratch = torch.full_like(gate, 7.0), torch.empty(2 * scratch_bytes(96), dtype=torch.uint8)
    program = raising_open(DEVIATIONS, "bf12", *cpu)
    given = {
        "y": y.data_ptr(), "gate": gate.data_ptr(), "x": x.data_ptr(), "rows": rows, "width": 77,
        "weight_stride": codes.stride(0), "scratch": scratch.data_ptr(), "stride": 96,
        "inputs": 384, "weight": codes.data_ptr(), **beside(rest),
    }  # fmt: skip
    program.run(2, *(given[name] for name in program.arguments))
    assert y[:, 1:3].any()
    assert_close(y[:, :77], gate, x, weight)


@pytest.mark.parametrize("deviations", [-5.0, -0.5, 0.5])
def test_many_open_gates(deviations):
    tensors = make(5, 333)
    y = raised(*tensors, deviations=deviations)
    assert_close(y, *tensors, deviations)
    assert deviations > -5 or (y != 0).all()


@pytest.mark.parametrize("places", [[0], [332], [0, 332], [100, 101, 102], [*range(64, 128)]])
@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_open_gates_may_lie_anywhere(places, threads):
    """Also fewer than threads are."""
    gate, x, weight = make(2, 333)
    gate[:, :333] = 0.0
    gate[0, places] = 5.0
    y = raised(gate, x, weight, threads=threads, deviations=1.0)
    assert y[0, places].all() and not y[1].any()
    assert_close(y, gate, x, weight, 1.0)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_none_may_be_open(threads):
    gate, x, weight = make(3, 333)
    gate[:] = 3.0
    assert not raised(gate, x, weight, threads=threads).any()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_neither_threads_nor_company_change_anything(threads):
    gate, x, weight = make(16, 500)
    together = raised(gate, x, weight, threads=threads)
    alone = [raised(gate[m : m + 1], x[m : m + 1], weight) for m in range(16)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("cpu", CPUS)
def test_what_is_not_a_number_is_not_lost(cpu):
    """And stays in its row."""
    gate, x, weight = make(3, 100)
    before = raised(gate, x, weight, cpu)
    gate[1, 40] = torch.nan
    y = raised(gate, x, weight, cpu)
    assert y[1].isnan().all()
    assert torch.equal(y[::2], before[::2])
