"""Every kernel against the same product by torch, in float64, with the numbers the weights stand
for."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import loops
from kernels import products as kernels

HALF, FULL = torch.bfloat16, torch.float32
FORMS = ("bf16", "int8", "int4")


@pytest.fixture(autouse=True)
def threads():
    """Tests may change the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def make(form: str, outputs: int, inputs: int, seed: int = 0):
    """Weights of a form: (weight, scale, the float64 numbers they stand for)."""
    generator = torch.Generator().manual_seed(seed)
    if form == "bf16":
        weight = torch.randn(outputs, inputs, generator=generator).to(HALF)
        return weight, None, weight.double()
    groups = -(-inputs // kernels.GROUPS[form])
    scale = torch.rand(outputs, groups, generator=generator).add(0.5).to(HALF)
    if form == "int8":
        weight = torch.randint(-127, 128, (outputs, inputs), generator=generator).to(torch.int8)
        integers = weight.double()
    else:
        integers = torch.randint(-8, 8, (outputs, inputs), generator=generator).double()
        weight = pack(integers)
    return weight, scale, integers * scale.double().repeat_interleave(
        kernels.GROUPS[form], 1
    )[:, :inputs]  # fmt: skip


def pack(integers: torch.Tensor) -> torch.Tensor:
    """The documented layout, word by word."""
    outputs, inputs = integers.shape
    nibbles = (integers + 8).long().view(outputs, inputs // 32, 8, 4)
    words = sum(nibbles[:, :, j] << 4 * j for j in range(8))
    octets = torch.stack([words >> 8 * i & 255 for i in range(4)], dim=-1)
    return octets.to(torch.uint8).view(outputs, inputs // 2)


def multiply(form, x, weight, scale):
    if form == "bf16":
        return kernels.linear(x, weight)
    return kernels.quantized_linear(form, x, weight, scale)


def assert_close(y, x, numbers):
    """Within the rounding of float32 sums, and of the result's own type."""
    exact = x.double() @ numbers.T
    bound = 2e-6 * (x.double().abs() @ numbers.abs().T)
    if y.dtype == HALF:
        bound = bound + exact.abs() / 256
    assert ((y.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("rows", [*range(1, 10), 17, 33])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [HALF, FULL])
def test_products_are_exact_to_rounding(form, dtype, rows):
    weight, scale, numbers = make(form, 37, 416)
    x = torch.randn(rows, 416, generator=torch.Generator().manual_seed(rows)).to(dtype)
    if form == "bf16":
        weight = weight.to(dtype)
    if dtype == HALF and rows > kernels.MOST_ROWS[form]:
        numbers = numbers.to(HALF).double()  # what torch multiplies
    assert_close(multiply(form, x, weight, scale), x, numbers)


@settings(max_examples=60, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    outputs=st.integers(1, 70),
    groups=st.integers(1, 20),
    rows=st.integers(1, 3),
    threads=st.integers(1, 3),
)
def test_any_shape_and_number_of_threads(form, outputs, groups, rows, threads):
    weight, scale, numbers = make(form, outputs, 32 * groups, seed=outputs)
    x = torch.randn(rows, 32 * groups, generator=torch.Generator().manual_seed(groups)).to(HALF)
    torch.set_num_threads(threads)
    assert_close(multiply(form, x, weight, scale), x, numbers)


@pytest.mark.parametrize("form", FORMS)
def test_the_number_of_threads_changes_nothing(form):
    weight, scale, _ = make(form, 1055, 512)
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
    weight, scale, _ = make(form, 37, 416)
    most = kernels.MOST_ROWS[form]
    x = torch.randn(most, 416).to(HALF)
    alone = torch.cat([multiply(form, row[None], weight, scale) for row in x])
    for rows in (2, 3, 4, 5, 6, 7, 8, most):
        assert torch.equal(multiply(form, x[:rows], weight, scale), alone[:rows])


@pytest.mark.parametrize("form", FORMS)
def test_rows_and_columns_of_a_larger_matrix(form):
    """Behind the view lies what must not be read: scales that are not numbers."""
    weight, scale, numbers = make(form, 80, 512)
    x = torch.randn(3, 160).to(HALF)
    columns = 160 * weight.shape[1] // 512
    if scale is not None:
        used = -(-160 // kernels.GROUPS[form])
        scale[:, used:] = torch.nan
        scale[47:] = torch.nan
        scale = scale[10:47, :used]
    y = multiply(form, x, weight[10:47, :columns], scale)
    assert_close(y, x, numbers[10:47, :160])


@pytest.mark.parametrize("form", ["int8", "int4"])
@pytest.mark.parametrize("dtype", [HALF, FULL])
def test_unpacked_weights_are_the_same_numbers(form, dtype):
    weight, scale, numbers = make(form, 37, 416)
    assert torch.equal(kernels.unpacked(form, weight, scale, dtype), numbers.to(dtype))
    assert torch.equal(kernels.unpacked_by_torch(form, weight, scale, dtype), numbers.to(dtype))
    view = kernels.unpacked(form, weight[5:9, : weight.shape[1] // 13], scale[5:9, :1], dtype)
    assert torch.equal(view, numbers[5:9, :32].to(dtype))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [HALF, FULL])
@pytest.mark.parametrize("width", [8, 16])
def test_what_other_cpus_run(form, dtype, width):
    """Any CPU can, if slowly. What this one chooses is what all other tests run."""
    rows, outputs, inputs = 2, 21, 416
    weight, scale, numbers = make(form, outputs, inputs)
    x, y = torch.randn(rows, inputs).to(dtype), torch.empty(rows, outputs, dtype=dtype)
    kind = (form, dtype == HALF)
    scratch = torch.empty(loops.scratch_bytes(*kind, inputs, rows, width, False), dtype=torch.uint8)
    strides = (
        weight.stride(0) * weight.element_size(),
        0 if scale is None else 2 * scale.stride(0),
    )
    places = (weight.data_ptr(), 0 if scale is None else scale.data_ptr(), scratch.data_ptr())
    program = loops.product(*kind, rows, width, False)
    program.run(1, y.data_ptr(), x.data_ptr(), *places, outputs, inputs, *strides)
    assert_close(y, x, numbers)


def test_weights_may_lie_at_any_address():
    weight, scale, numbers = make("int8", 9, 96)
    memory = torch.zeros(3 + weight.numel(), dtype=torch.int8)
    shifted = memory[3:].view(9, 96).copy_(weight)
    x = torch.randn(1, 96)
    assert_close(kernels.quantized_linear("int8", x, shifted, scale), x, numbers)


def test_leading_axes_are_kept():
    weight, scale, _ = make("int4", 6, 64)
    x = torch.randn(2, 3, 64)
    y = kernels.quantized_linear("int4", x, weight, scale)
    assert y.shape == (2, 3, 6)
    flat = kernels.quantized_linear("int4", x.view(6, 64), weight, scale)
    assert torch.equal(y.view(6, 6), flat)
    turned = x.transpose(0, 1)  # not contiguous
    assert torch.equal(kernels.quantized_linear("int4", turned, weight, scale), y.transpose(0, 1))
    assert kernels.quantized_linear("int4", x[:0], weight, scale).shape == (0, 3, 6)


def test_sessions_in_threads_of_their_own():
    weight, scale, numbers = make("int4", 1055, 512)
    xs = [torch.randn(1, 512).to(HALF) for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        ys = list(pool.map(lambda x: multiply("int4", x, weight, scale), xs * 4))
    for x, y in zip(xs * 4, ys, strict=True):
        assert_close(y, x, numbers)


def test_gradients_flow_where_they_are_wanted():
    weight, scale, numbers = make("int8", 5, 64)
    x = torch.randn(1, 64, requires_grad=True)
    kernels.quantized_linear("int8", x, weight, scale).sum().backward()
    assert torch.allclose(x.grad.double(), numbers.sum(0)[None], rtol=1e-5)
    bf16 = weight.to(HALF).requires_grad_()
    kernels.linear(x.detach().to(HALF), bf16).sum().backward()
    assert bf16.grad is not None


def test_a_wrong_number_of_inputs_is_an_error():
    weight, scale, _ = make("int4", 5, 64)
    with pytest.raises(
        ValueError, match=r"expected x \[\.\.\., 64\] for int4 weights, got \[1, 96\]"
    ):
        kernels.quantized_linear("int4", torch.randn(1, 96), weight, scale)
    with pytest.raises(RuntimeError):
        kernels.linear(torch.randn(1, 96).to(HALF), weight.to(HALF))


def test_without_a_compiler_torch_does_it_all():
    script = """
import sys
sys.modules["llvmlite"] = None
import torch
from kernels import products as kernels
weight = torch.arange(96, dtype=torch.int8).view(3, 32)
y = kernels.quantized_linear("int8", torch.ones(1, 32), weight, torch.ones(3, 1).bfloat16())
x = torch.ones(1, 32).bfloat16()
print(kernels.available(), y.tolist(), kernels.linear(x, torch.ones(1, 32).bfloat16()).item())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False [[496.0, 1520.0, 2544.0]] 32.0\n", done.stderr


def test_code_is_made_when_it_is_needed():
    script = "import sys, decoder, kernels; print('llvmlite' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
