"""Every kernel against the same product by torch, in float64, with the numbers the weights stand
for."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.decoder import storage
from dragoman.kernels import block_loops, compiler, loops
from dragoman.kernels import products as kernels

HALF, FULL = torch.bfloat16, torch.float32
FORMS = ("bf16", "int8", "int4")


def make(
    form: str, outputs: int, inputs: int, seed: int = 0
) -> tuple[torch.Tensor, Any, torch.Tensor]:
    """Weights of a form: (weight, scale, None of bf16, the float64 numbers they stand for)."""
    generator = torch.Generator().manual_seed(seed)
    if form == "bf16":
        weight = torch.randn(outputs, inputs, generator=generator).to(HALF)
        return weight, None, weight.double()
    group = storage.GROUP_INPUTS[form]
    scale = torch.rand(outputs, -(-inputs // group), generator=generator).add(0.5).to(HALF)
    most = 127 if form == "int8" else 7
    integers = torch.randint(-most - 1, most + 1, (outputs, inputs), generator=generator)
    numbers = integers.double() * scale.double().repeat_interleave(group, 1)[:, :inputs]
    return pack(form, integers), beside(scale), numbers


def pack(form: str, integers: torch.Tensor) -> torch.Tensor:
    """The documented layout, byte by byte."""
    outputs, inputs = integers.shape
    packed = torch.zeros(outputs // 16, 16 * inputs // (2 if form == "int4" else 1)).to(torch.uint8)
    for n, row in enumerate(integers.tolist()):
        for k, value in enumerate(row):
            if form == "int8":
                packed[n // 16, (k // 4 * 16 + n % 16) * 4 + k % 4] = value + 128
            else:
                place = (k // 8 * 16 + n % 16) * 4 + k % 4
                packed[n // 16, place] += (value + 8) << (4 if k % 8 > 3 else 0)
    return packed


def beside(scale: torch.Tensor) -> torch.Tensor:
    """Scales [outputs, groups] as documented."""
    return scale.view(-1, 16, scale.shape[1]).transpose(1, 2).reshape(-1, 16 * scale.shape[1])


def multiply(form, x, weight, scale):
    if form == "bf16":
        return kernels.linear(x, weight)
    return kernels.quantized_linear(form, x, weight, scale)


def rounded(form, x):
    """x as it is multiplied: by groups in int8, where the CPU multiplies bytes."""
    if form == "bf16" or not compiler.has_bytes(compiler.lanes()):
        return x.double()
    group = storage.GROUP_INPUTS[form]
    groups = F.pad(x.float(), (0, -x.shape[-1] % group)).unflatten(-1, (-1, group))
    most = groups.abs().amax(-1, keepdim=True)
    factor = torch.where(most == 0, 0.0, torch.full_like(most, 127).div(most))
    return ((groups * factor).round().double() * most.double() / 127).flatten(-2)[
        ..., : x.shape[-1]
    ]


def assert_close(y, x, numbers):
    """Within the rounding of float32 sums, and of the result's own type."""
    exact = x.double() @ numbers.T
    bound = 2e-6 * (x.double().abs() @ numbers.abs().T)
    if y.dtype == HALF:
        bound = bound + exact.abs() / 256
    assert ((y.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("rows", [*range(1, 10), 17, 33, 300])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [HALF, FULL])
def test_products_are_exact_to_rounding(form, dtype, rows):
    weight, scale, numbers = make(form, 48, 416)
    x = torch.randn(rows, 416, generator=torch.Generator().manual_seed(rows)).to(dtype)
    if form == "bf16":
        weight = weight.to(dtype)
    assert_close(multiply(form, x, weight, scale), rounded(form, x), numbers)


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_what_rounding_x_costs(form):
    """As much as rounding weights to int8 does."""
    weight, scale, numbers = make(form, 320, 2048)
    x = torch.randn(3, 2048, generator=torch.Generator().manual_seed(0))
    exact = x.double() @ numbers.T
    error = (multiply(form, x, weight, scale) - exact).norm() / exact.norm()
    assert error < (0.0075 if compiler.has_bytes(compiler.lanes()) else 1e-6)


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_an_outlier_of_x_spoils_its_own_group_only(form):
    weight, scale, _ = make(form, 32, 512)
    group = storage.GROUP_INPUTS[form]
    x = torch.randn(1, 512)
    x[:, :group] = 0.0
    plain = multiply(form, x, weight, scale)
    x[0, 0] = 1e6
    spoiled = multiply(form, x, weight, scale)
    alone = torch.zeros_like(x)
    alone[0, 0] = 1e6
    expected = plain.double() + multiply(form, alone, weight, scale).double()
    torch.testing.assert_close(spoiled.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("form", ["int8", "int4"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_no_number_is_seen(form, bad):
    weight, scale, _ = make(form, 32, 256)
    x = torch.randn(3, 256)
    clean = multiply(form, x, weight, scale)
    x[1, 200] = bad
    y = multiply(form, x, weight, scale)
    assert not y[1].isfinite().any()
    assert torch.equal(y[::2], clean[::2])


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_zeros_give_zeros(form):
    """And so does what is too small to have an inverse."""
    weight, scale, _ = make(form, 32, 256)
    tiny = torch.full((2, 256), 1e-37)
    assert multiply(form, tiny, weight, scale).abs().max() < 1e-30
    assert torch.equal(multiply(form, torch.zeros(2, 256), weight, scale), torch.zeros(2, 32))


@settings(max_examples=60, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    blocks=st.integers(1, 5),
    groups=st.integers(1, 20),
    rows=st.integers(1, 3),
    threads=st.integers(1, 3),
)
def test_any_shape_and_number_of_threads(form, blocks, groups, rows, threads):
    outputs = 16 * blocks - (blocks if form == "bf16" else 0)
    weight, scale, numbers = make(form, outputs, 32 * groups, seed=blocks)
    x = torch.randn(rows, 32 * groups, generator=torch.Generator().manual_seed(groups)).to(HALF)
    torch.set_num_threads(threads)
    assert_close(multiply(form, x, weight, scale), rounded(form, x), numbers)


@pytest.mark.parametrize("form", FORMS)
def test_the_number_of_threads_changes_nothing(form):
    weight, scale, _ = make(form, 1056, 512)
    assert weight.nbytes > kernels.ALONE_BYTES  # so that there are two
    x = torch.randn(2, 512).to(HALF)
    answers = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        answers.append(multiply(form, x, weight, scale))
    assert torch.equal(*answers)


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_x_do_not_change_one_another(form):
    """A draft that is checked in one pass is answered as if it came step by step, to the bit."""
    weight, scale, _ = make(form, 48, 416)
    most = [16, 17, kernels.MOST_ROWS] if form == "bf16" else [16, 31, 300]
    x = torch.randn(most[-1], 416).to(HALF)
    alone = torch.cat([multiply(form, row[None], weight, scale) for row in x])
    for rows in (2, 3, 4, 5, 6, 7, 8, *most):
        assert torch.equal(multiply(form, x[:rows], weight, scale), alone[:rows])


@pytest.mark.parametrize("form", FORMS)
def test_rows_and_columns_of_a_larger_matrix(form):
    """Behind the view lies what must not be read: scales that are not numbers."""
    weight, scale, numbers = make(form, 96, 512)
    x = torch.randn(3, 160).to(HALF)
    if form == "bf16":
        return assert_close(multiply(form, x, weight[16:48, :160], None), x, numbers[16:48, :160])
    used = 16 * -(-160 // storage.GROUP_INPUTS[form])
    scale[:, used:] = torch.nan
    scale[3:] = torch.nan
    y = multiply(form, x, weight[1:3, : 160 * weight.shape[1] // 512], scale[1:3, :used])
    assert_close(y, rounded(form, x), numbers[16:48, :160])


@pytest.mark.parametrize("form", ["int8", "int4"])
@pytest.mark.parametrize("dtype", [HALF, FULL])
def test_unpacked_weights_are_the_same_numbers(form, dtype):
    weight, scale, numbers = make(form, 48, 416)
    assert storage.shape(form, weight) == (48, 416)
    assert torch.equal(kernels.unpacked(form, weight, scale, dtype), numbers.to(dtype))
    chosen = torch.tensor([40, 3, 40])
    rows = storage.unpacked_rows(form, weight, scale, chosen, dtype)
    assert torch.equal(rows, numbers[chosen].to(dtype))
    none = storage.unpacked_rows(form, weight, scale, chosen[:0], dtype)
    assert none.shape == (0, 416)
    view = kernels.unpacked(form, weight[1:2, : weight.shape[1] // 13], scale[1:2, :16], dtype)
    assert torch.equal(view, numbers[16:32, :32].to(dtype))


@pytest.mark.parametrize("dtype", [HALF, FULL])
@pytest.mark.parametrize("width", [8, 16])
def test_what_other_cpus_run(dtype, width):
    """Any CPU can, if slowly. What this one chooses is what all other tests run."""
    rows, outputs, inputs, half = 2, 21, 416, dtype == HALF
    weight, _, numbers = make("bf16", outputs, inputs)
    x = torch.randn(rows, inputs).to(dtype)
    program = loops.product(half, rows, "bf16", width, False)
    room = loops.scratch_bytes(half, inputs, rows, False)
    assert_close(run(program, room, x, weight, None, outputs), x, numbers)


@pytest.mark.parametrize("form", ["int8", "int4"])
@pytest.mark.parametrize("dtype", [HALF, FULL])
@pytest.mark.parametrize(("width", "by_bytes"), [(8, False), (16, False), (8, True)])
def test_quantized_on_other_cpus(form, dtype, width, by_bytes):
    if by_bytes and not compiler.has_bytes(width):
        pytest.skip("this CPU cannot multiply bytes")
    rows, outputs, inputs = 17, 48, 416
    weight, scale, numbers = make(form, outputs, inputs)
    x = torch.randn(rows, inputs).to(dtype)
    tile = block_loops.tile(rows, width)
    assert rows % tile  # so that some are computed twice
    program = block_loops.product(form, dtype == HALF, tile, width, by_bytes)
    room = block_loops.scratch_bytes(form, inputs, rows, width, by_bytes)
    y = run(program, room, x, weight, scale, outputs)
    assert_close(y, rounded(form, x) if by_bytes else x, numbers)


def run(program, scratch_bytes, x, weight, scale, outputs):
    y = torch.empty(len(x), outputs, dtype=x.dtype)
    scratch = torch.empty(2 * scratch_bytes, dtype=torch.uint8)
    given = {
        "y": y.data_ptr(), "x": x.data_ptr(), **kernels.operands(weight, scale),
        "scratch": scratch.data_ptr(), "rows": len(x), "outputs": outputs, "inputs": x.shape[1],
    }  # fmt: skip
    program.run(2, *(given[name] for name in program.arguments))
    return y


def test_weights_may_lie_at_any_address():
    weight, scale, numbers = make("int8", 16, 96)
    memory = torch.zeros(3 + weight.numel(), dtype=torch.uint8)
    shifted = memory[3:].view(1, -1).copy_(weight)
    x = torch.randn(1, 96)
    y = kernels.quantized_linear("int8", x, shifted, scale)
    assert_close(y, rounded("int8", x), numbers)
    assert torch.equal(kernels.unpacked("int8", shifted, scale, FULL), numbers.to(FULL))


def test_leading_axes_are_kept():
    weight, scale, _ = make("int4", 32, 64)
    x = torch.randn(2, 3, 64)
    y = kernels.quantized_linear("int4", x, weight, scale)
    assert y.shape == (2, 3, 32)
    flat = kernels.quantized_linear("int4", x.view(6, 64), weight, scale)
    assert torch.equal(y.view(6, 32), flat)
    turned = x.transpose(0, 1)  # not contiguous
    assert torch.equal(kernels.quantized_linear("int4", turned, weight, scale), y.transpose(0, 1))
    assert kernels.quantized_linear("int4", x[:0], weight, scale).shape == (0, 3, 32)


def test_sessions_in_threads_of_their_own():
    weight, scale, numbers = make("int4", 1056, 512)
    xs = [torch.randn(1, 512).to(HALF) for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        ys = list(pool.map(lambda x: multiply("int4", x, weight, scale), xs * 4))
    for x, y in zip(xs * 4, ys, strict=True):
        assert_close(y, rounded("int4", x), numbers)


def test_gradients_flow_where_they_are_wanted():
    weight, scale, numbers = make("int8", 16, 64)
    x = torch.randn(1, 64, requires_grad=True)
    kernels.quantized_linear("int8", x, weight, scale).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad.double(), numbers.sum(0)[None], rtol=1e-5)
    bf16 = numbers.to(HALF).requires_grad_()
    kernels.linear(x.detach().to(HALF), bf16).sum().backward()
    assert bf16.grad is not None


def test_a_wrong_number_of_inputs_is_an_error():
    weight, scale, _ = make("int4", 16, 64)
    with pytest.raises(
        ValueError, match=r"expected x \[\.\.\., 64\] for int4 weights, got \[1, 96\]"
    ):
        kernels.quantized_linear("int4", torch.randn(1, 96), weight, scale)
    with pytest.raises(RuntimeError):
        kernels.linear(torch.randn(1, 96).to(HALF), torch.randn(16, 64).to(HALF))
