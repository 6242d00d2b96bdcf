"""What a Conformer does between its products, by our code, against the same in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.kernels import conformer_ops as ops
from dragoman.kernels import frames
from dragoman.kernels.serving import serves

HALF, FULL = torch.bfloat16, torch.float32
EPS, LIMIT = 1e-6, 2.5
KINDS = pytest.mark.parametrize("dtype", [HALF, FULL])


@pytest.fixture(params=[None, 8, 16], ids=["this", "8 lanes", "16 lanes"])
def cpu(request, monkeypatch):
    """This CPU, and what others run."""
    if request.param is not None:
        monkeypatch.setattr(frames, "lanes", lambda: request.param)
        for name in ("norm", "silu_in_place", "convolution", "attention"):
            monkeypatch.setattr(frames, name, getattr(frames, name).__wrapped__)
    yield


def noise(*shape: int, dtype: torch.dtype = FULL, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_close(y: torch.Tensor, expected: torch.Tensor) -> None:
    """A few roundings of float32, and one to y's own type."""
    assert y.shape == expected.shape
    bound = 3e-6 * expected.abs().max() + (2**-8 * expected.abs() if y.dtype == HALF else 0.0)
    assert ((y.double() - expected).abs() <= bound).all()


def normed(x: torch.Tensor, weight: torch.Tensor, limit: float = LIMIT) -> torch.Tensor:
    x = x.double().clamp(-limit, limit)
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * weight.double()


@KINDS
@pytest.mark.parametrize("width", [1, 17, 96, 1536])
@pytest.mark.parametrize("limit", [LIMIT, math.inf])
def test_norms(cpu, dtype, width, limit):
    x, onto = 3 * noise(2, 4, width, dtype=dtype), noise(2, 4, width, dtype=dtype, seed=1)
    weight = noise(width, dtype=dtype, seed=2)
    assert (width == 1) or (x.abs() > LIMIT).any()
    expected = normed(x, weight, limit)
    assert_close(ops.norm(x, weight, EPS, limit), expected)
    y = ops.add_norm(onto, x, weight, EPS, limit, 0.7)
    assert_close(y, onto.double() + 0.7 * expected)


@KINDS
@pytest.mark.parametrize("count", [1, 31, 9000])
def test_silu_in_place(cpu, dtype, count):
    x = 5 * noise(count, dtype=dtype)
    expected = F.silu(x.double())
    y = ops.silu_(x)
    assert y is x
    assert_close(y, expected)


def convolved(
    x: torch.Tensor, tail: torch.Tensor, kernel: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    heard = torch.cat([tail, F.glu(x.double(), -1).to(tail.dtype)], dim=1).double()
    y = F.conv1d(heard.mT, kernel.double().T[:, None], groups=kernel.shape[1]).mT
    return F.silu(normed(y, weight)), heard[:, x.shape[1] :]


@KINDS
@pytest.mark.parametrize("width", [20, 64])
@pytest.mark.parametrize(("streams", "length", "taps"), [(1, 4, 5), (3, 1, 5), (5, 9, 3)])
def test_convolution(cpu, dtype, width, streams, length, taps):
    x = noise(streams, length, 2 * width, dtype=dtype)
    tail = noise(streams, taps - 1, width, dtype=dtype, seed=1)
    kernel, weight = 3 * noise(taps, width, seed=2), noise(width, dtype=dtype, seed=3)
    expected, after = convolved(x, tail, kernel, weight)
    y = ops.convolve(x, tail, kernel, weight, EPS, LIMIT)
    if dtype == FULL:
        assert_close(y, expected)
    else:  # gated frames are rounded, some of them to the other side
        assert (y - expected).abs().max() < 0.02 * expected.abs().max()
    assert_close(tail, after)


def attended(new, old, seen, table, scale, cap):
    """By its definition, frame by frame; and the keys and values to keep."""
    (queries, *_), P = new, old[0].shape[1]
    keys, values = (torch.cat(pair, dim=1).double() for pair in zip(old, new[1:], strict=True))
    y = torch.empty(queries.shape, dtype=torch.float64)
    for stream, age in enumerate(seen.tolist()):
        for t in range(queries.shape[1]):
            first = max(0, P - age - t)
            span = slice(t + first, t + P + 1)
            near = keys[stream, span] + table.double()[:, first:].transpose(0, 1)
            logits = torch.einsum("nh,jnh->nj", queries[stream, t].double() * scale, near)
            share = (cap * torch.tanh(logits / cap)).softmax(-1)
            y[stream, t] = torch.einsum("nj,jnh->nh", share, values[stream, span])
    T = queries.shape[1]
    return y, keys[:, T:], values[:, T:]


def attention(streams: int, length: int, width: int, dtype: torch.dtype, history: int = 12):
    queries, keys, values = (
        noise(streams, length, 2, width, dtype=dtype, seed=n) for n in range(3)
    )
    new = (queries, keys, values)
    old_keys, old_values = (noise(streams, history, 2, width, dtype=dtype, seed=n) for n in (3, 4))
    old = (old_keys, old_values)
    table, scale = noise(2, history + 1, width, dtype=dtype, seed=5), noise(width, seed=6).abs()
    return new, old, table, scale


@KINDS
@pytest.mark.parametrize("width", [6, 48])
@pytest.mark.parametrize("length", [1, 4, 12, 30])
@pytest.mark.parametrize("cap", [2.0, 50.0])
def test_attention(cpu, dtype, width, length, cap):
    new, old, table, scale = attention(3, length, width, dtype)
    seen = torch.tensor([0, 5, 2**40])
    expected, *after = attended(new, old, seen, table, scale, cap)
    for part in old:  # what was not heard must not be read
        part[0] = torch.nan
        part[1, :7] = torch.nan
    y = ops.attend(new, old, seen, table, scale, cap)
    if dtype == FULL:
        assert_close(y, expected)
    else:
        assert (y - expected).abs().max() < 0.01 * expected.abs().max()
    for part, kept in zip(old, after, strict=True):
        assert torch.equal(part[2].double(), kept[2])
        assert torch.equal(part[0, -min(length, 12) :].double(), kept[0, -min(length, 12) :])


@settings(max_examples=30, deadline=None)
@given(
    streams=st.integers(1, 5), length=st.integers(1, 15), history=st.integers(1, 14),
    threads=st.integers(1, 3),
)  # fmt: skip
def test_any_number_of_streams_frames_and_threads(streams, length, history, threads):
    new, old, table, scale = attention(streams, length, 8, FULL, history)
    seen = torch.arange(streams) * 3
    expected, *after = attended(new, old, seen, table, scale, 5.0)
    torch.set_num_threads(threads)
    assert_close(ops.attend(new, old, seen, table, scale, 5.0), expected)
    assert all(torch.equal(part.double(), kept) for part, kept in zip(old, after, strict=True))
    x, tail = noise(streams, length, 32), noise(streams, 4, 16, seed=1)
    kernel, weight = noise(5, 16, seed=2), noise(16, seed=3)
    expected, after = convolved(x, tail, kernel, weight)
    assert_close(ops.convolve(x, tail, kernel, weight, EPS, LIMIT), expected)
    assert_close(tail, after)


@KINDS
def test_many_rows_over_all_threads(dtype):
    x, weight = noise(64, 512, dtype=dtype), noise(512, dtype=dtype, seed=1)
    assert x.numel() > ops.ALONE
    answers = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        answers.append((ops.norm(x, weight, EPS, LIMIT), ops.silu_(x.clone())))
    for normed_, silu in answers[1:]:
        assert torch.equal(normed_, answers[0][0]) and torch.equal(silu, answers[0][1])


def test_what_is_not_a_number_stays_in_its_stream():
    new, old, table, scale = attention(2, 4, 16, FULL)
    seen = torch.tensor([12, 12])
    expected, *_ = attended(new, old, seen, table, scale, 5.0)
    new[0][0, 1, 0, 3] = torch.nan
    y = ops.attend(new, old, seen, table, scale, 5.0)
    assert y[0, 1, 0].isnan().all() and not y[0, 2:].isnan().any()
    assert_close(y[1], expected[1])
    x, weight = noise(3, 32), noise(32)
    x[1, 7] = torch.nan
    y = ops.norm(x, weight, EPS, LIMIT)
    assert y[1].isnan().all() and not y[[0, 2]].isnan().any()


def test_what_it_serves():
    x, weight = noise(2, 8), noise(8).requires_grad_()
    with torch.no_grad():
        assert serves(x, weight)
        assert not serves(x, weight.to(HALF))
        assert not serves(x.double())
        assert not serves(x.T)
        assert not serves(x[:0])
        assert not serves(x.to("meta"))
    assert serves(x) and not serves(x, weight)
