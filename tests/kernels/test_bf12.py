"""bf16 weights in 12 bits: the same numbers to the bit, and the products of the same numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.decoder import bf12, storage
from dragoman.kernels import compiler, loops, products
from dragoman.kernels.recording import Products, Recording, Scratch
from tests.kernels.test_products import FULL, HALF, assert_close, multiply, run

FAR = 12  # weights that need more exponents than a row can list


def normal(outputs: int, inputs: int, seed: int = 0) -> torch.Tensor:
    """As trained weights are."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(outputs, inputs, generator=generator).mul_(0.02).to(HALF)


def spread_out(outputs: int, inputs: int, seed: int = 0) -> torch.Tensor:
    """Rows of which many weights, some, or none lie far from the others."""
    weight = normal(outputs, inputs, seed)
    generator = torch.Generator().manual_seed(seed)
    powers = torch.randint(-60, 60, (inputs,), generator=generator).float()
    weight[0] = (weight[0] * 2.0**powers).to(HALF)
    for n in (1, 2):
        weight[n, -FAR:] = (2.0 ** -torch.linspace(20, 80, FAR)).to(HALF)
    weight[3] = 0.0
    return weight


def bits(weight: torch.Tensor) -> torch.Tensor:
    return weight.view(torch.int16)


def left_out(rest: torch.Tensor) -> torch.Tensor:
    """How many weights of each row lie beside it."""
    return (rest[:, 16:].contiguous().view(torch.int16)[:, ::2] != -1).sum(1)


@settings(max_examples=40, deadline=None)
@given(
    outputs=st.integers(1, 9), groups=st.integers(1, 4), seed=st.integers(0, 2**16),
    kind=st.sampled_from(["normal", "any bits", "few exponents"]),
)  # fmt: skip
def test_nothing_is_lost(outputs, groups, seed, kind):
    weight = normal(outputs, 128 * groups, seed)
    if kind == "any bits":
        generator = torch.Generator().manual_seed(seed)
        some = torch.randint(-(2**15), 2**15, weight.shape, generator=generator)
        weight = some.to(torch.int16).view(HALF)
    elif kind == "few exponents":
        weight = torch.where(weight > 0, weight.sign(), weight * 1e-9).to(HALF)
    codes, rest = bf12.packed(weight)
    assert codes.shape == (outputs, 192 * groups)
    assert torch.equal(bits(bf12.unpacked(codes, rest)), bits(weight))
    assert torch.equal(bits(products.unpacked("bf12", codes, rest, HALF)), bits(weight))


@pytest.mark.parametrize("special", [0.0, -0.0, float("inf"), -float("inf"), 1e-40, 3e38])
def test_numbers_of_all_kinds(special):
    weight = normal(3, 256)
    weight[1, 200] = special
    codes, rest = bf12.packed(weight)
    assert torch.equal(bits(bf12.unpacked(codes, rest)), bits(weight))


def test_as_many_inputs_as_can_be_numbered():
    """Numbers of inputs are uint16 without a sign, and the last one ends a row's."""
    weight = normal(3, bf12.MOST_INPUTS)
    weight[0, [0, 2**15 - 1, 2**15, -1]] = 1e20
    codes, rest = bf12.packed(weight)
    assert torch.equal(bits(bf12.unpacked(codes, rest)), bits(weight))
    assert torch.equal(bits(products.unpacked("bf12", codes, rest, HALF)), bits(weight))


def test_packing_is_done_where_the_weights_are():
    """Not where new tensors are made when nothing else is said."""
    weight = spread_out(5, 256)
    expected = bf12.packed(weight)
    with torch.device("meta"):
        found = bf12.packed(weight)
    assert all(map(torch.equal, found, expected))


def test_zeros_need_no_place_beside_the_row():
    weight = normal(2, 2048)
    weight[:, ::2] = 0.0
    weight[:, 1::4] = -0.0
    _, rest = bf12.packed(weight)
    assert left_out(rest).max() < 8


def test_of_normal_weights_few_are_left_out():
    codes, rest = bf12.packed(normal(256, 2048))
    assert rest.shape == (256, 64)
    assert 0 < left_out(rest).float().mean() < 1
    assert (codes.nbytes + rest.nbytes) / (256 * 2048) < 1.54


def test_the_documented_layout():
    """Read byte by byte, as the docstring of the module says."""
    weight = spread_out(5, 256)
    codes, rest = bf12.packed(weight)
    for n in range(5):
        found, row = {}, codes[n].tolist()
        for group in range(2):
            for p in range(64):
                for half in range(2):
                    input_ = 128 * group + 64 * half + bf12.ORDER[p]
                    low = row[192 * group + 64 * half + p]
                    code = row[192 * group + 128 + p] >> 4 * half & 15
                    found[input_] = int(rest[n, code]) << 8 | low
        entries = rest[n, 16:].view(-1, 4).int()
        for a, b, low, high in entries.tolist():
            input_ = a | b << 8
            if input_ == 65535:
                break
            assert found[input_] == 0
            found[input_] = high << 8 | low
        assert [found[k] for k in range(256)] == (bits(weight[n]).int() & 0xFFFF).tolist()
    assert int(left_out(rest)[0]) > 100
    assert left_out(rest)[1:3].min() > 1
    assert left_out(rest)[3] == 0


@pytest.mark.parametrize("rows", [*range(1, 10), 12, 16, 17, 32, 33, 100])
@pytest.mark.parametrize("dtype", [HALF, FULL])
def test_products_are_exact_to_rounding(dtype, rows):
    weight = spread_out(37, 384)
    weight[0] = 0.0
    weight[36, 100 : 100 + FAR] = 1e3 * weight[1, -FAR:]
    codes, rest = bf12.packed(weight)
    assert left_out(rest)[[1, 2, 36]].min() > 1
    x = torch.randn(rows, 384, generator=torch.Generator().manual_seed(rows)).to(dtype)
    y = products.quantized_linear("bf12", x, codes, rest)
    assert_close(y, x, weight.double())


def test_weights_that_were_left_out_count():
    """Each alone: input by input."""
    weight = spread_out(4, 128)
    codes, rest = bf12.packed(weight)
    assert left_out(rest)[:3].min() > 1
    y = products.quantized_linear("bf12", torch.eye(128), codes, rest)
    assert torch.equal(y, weight.T.float())


@pytest.mark.parametrize("rows", [1, 4, 5, 7, 16])
def test_the_same_bits_as_bf16_where_nothing_was_left_out(rows):
    weight = normal(64, 512).clamp(min=1e-3)
    codes, rest = bf12.packed(weight)
    assert not left_out(rest).any()
    x = torch.randn(rows, 512).to(HALF)
    y = products.quantized_linear("bf12", x, codes, rest)
    assert torch.equal(y, products.linear(x, weight))


@pytest.mark.parametrize("form", ["bf16", "bf12"])
@pytest.mark.parametrize(("rows", "inputs"), [(1, 8320), (2, 4224), (5, 2176), (16, 4096)])
def test_long_rows_are_multiplied_part_by_part(form, rows, inputs):
    """More outputs than there are sums that wait, and not a multiple of those that go together."""
    outputs = 2 * loops.WAITING + 5
    weight = spread_out(outputs, inputs)
    weight[0] = 0.0
    weight[7, -FAR:] = weight[1, -FAR:] * 1e9
    x = torch.randn(rows, inputs, generator=torch.Generator().manual_seed(rows)).to(HALF)
    if form == "bf16":
        return assert_close(products.linear(x, weight), x, weight.double())
    codes, rest = bf12.packed(weight)
    assert left_out(rest)[7] > 0
    assert_close(products.quantized_linear("bf12", x, codes, rest), x, weight.double())


class Held(torch.nn.Module):
    """Weights of a form, as modules have them."""

    def __init__(self, form: str, weight: torch.Tensor, scale: torch.Tensor | None):
        super().__init__()
        self.form = form
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)


@pytest.mark.parametrize("form", ["bf16", "bf12"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_sums_that_wait_do_not_meet(form, threads):
    """Those of recorded products without a wait between them, whose parts have unequal numbers of
    rows: the bits of each row alone."""
    rows, inputs = products.PART_ROWS + 1, 2 * loops.LEAST_PART + 128
    outputs = threads * loops.WAITING  # all of a thread's scratch memory
    weights = [spread_out(outputs, inputs), normal(outputs, inputs)]
    weights[0][0] = 0.0
    x, y = torch.randn(rows, inputs).to(HALF), torch.zeros(2, rows, outputs, dtype=HALF)
    recording = Recording(threads)
    recorded = Products(recording, Scratch(rows, inputs, threads, 4))
    matrices = [bf12.packed(w) if form == "bf12" else (w, None) for w in weights]
    for i, (weight, scale) in enumerate(matrices):
        module = Held(form, weight, scale)
        recorded.add(module, x.data_ptr(), y[i].data_ptr(), rows, wait=i == 1)
    alone = [torch.cat([multiply(form, row[None], *matrix) for row in x]) for matrix in matrices]
    for _ in range(20):
        recording.replay()
        assert torch.equal(y, torch.stack(alone))


def test_rows_of_x_do_not_change_one_another():
    weight = spread_out(48, 384)
    weight[0] = 0.0
    codes, rest = bf12.packed(weight)
    x = torch.randn(32, 384).to(HALF)
    alone = torch.cat([products.quantized_linear("bf12", row[None], codes, rest) for row in x])
    for rows in (2, 3, 4, 5, 6, 7, 8, 12, 16, 31, 32):
        assert torch.equal(products.quantized_linear("bf12", x[:rows], codes, rest), alone[:rows])


def test_the_number_of_threads_changes_nothing():
    codes, rest = bf12.packed(normal(1057, 512))
    assert codes.nbytes > products.ALONE_BYTES  # so that there are two
    x = torch.randn(2, 512).to(HALF)
    answers = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        answers.append(products.quantized_linear("bf12", x, codes, rest))
        answers.append(products.unpacked("bf12", codes, rest, HALF))
    assert torch.equal(answers[0], answers[2])
    assert torch.equal(answers[1], answers[3])


def test_rows_and_columns_of_a_larger_matrix():
    weight = spread_out(40, 512)
    weight[0] = 0.0
    weight[20, 300] = 1e12  # behind the columns
    codes, rest = bf12.packed(weight)
    x = torch.randn(3, 256).to(HALF)
    y = products.quantized_linear("bf12", x, codes[2:31, :384], rest[2:31])
    assert_close(y, x, weight[2:31, :256].double())
    view = products.unpacked("bf12", codes[2:31, :384], rest[2:31], FULL)
    assert torch.equal(view, weight[2:31, :256].float())
    chosen = torch.tensor([20, 1, 20])
    assert torch.equal(
        storage.unpacked_rows("bf12", codes, rest, chosen, FULL), weight[chosen].float()
    )


@pytest.mark.parametrize("dtype", [HALF, FULL])
@pytest.mark.parametrize("width", [8, 16])
def test_what_other_cpus_run(dtype, width):
    if not compiler.has_look_up(width):
        pytest.skip("this CPU cannot look bytes up")
    rows, outputs, inputs, half = 2, 21, 384, dtype == HALF
    weight = spread_out(outputs, inputs)
    weight[0] = 0.0
    codes, rest = bf12.packed(weight)
    x = torch.randn(rows, inputs).to(dtype)
    program = loops.product(half, rows, "bf12", width, False)
    room = loops.scratch_bytes(half, inputs, rows, False)
    assert_close(run(program, room, x, codes, rest, outputs), x, weight.double())
    y = torch.empty(outputs, inputs, dtype=HALF)
    given = {"y": y.data_ptr(), "outputs": outputs, "inputs": inputs}
    given |= products.operands(codes, rest)
    unpack = loops.unpacking(lanes_=width)
    unpack.run(1, *(given[name] for name in unpack.arguments))
    assert torch.equal(bits(y), bits(weight))


def test_gradients_flow_where_they_are_wanted():
    weight = normal(16, 128)
    x = torch.randn(1, 128, requires_grad=True)
    products.quantized_linear("bf12", x, *bf12.packed(weight)).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, weight.float().sum(0)[None], rtol=1e-5)
