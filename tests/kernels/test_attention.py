"""Attention over consecutive positions against the textbook, in float64."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.kernels import attention, available, causal_attention

HALF = torch.bfloat16
pytestmark = pytest.mark.skipif(
    not available() or not attention._has_pairs(), reason="torch does it on this CPU"
)


def make(batch, together, group, length, count, width, seed=0):
    """Queries, keys and values; those lie in the middle of larger buffers, as in a cache."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(shape, generator=generator)

    queries = random(batch, length, together * group, width).to(HALF).transpose(1, 2)
    buffers = torch.full((2, batch, together, count + 9, width), torch.nan, dtype=HALF)
    keys, values = buffers[:, :, :, 4 : count + 4]
    keys.copy_(random(batch, together, count, width) * width**-0.4)
    values.copy_(random(batch, together, count, width))
    return queries, keys, values


def attended(queries, keys, values, window) -> torch.Tensor:
    """What our code makes of it, which must be something."""
    y = causal_attention(queries, keys, values, window)
    assert y is not None
    return y


def exact(queries, keys, values, window):
    length, count = queries.shape[2], keys.shape[2]
    group = queries.shape[1] // keys.shape[1]
    keys, values = (x.double().repeat_interleave(group, 1) for x in (keys, values))
    distance = torch.arange(count - length, count)[:, None] - torch.arange(count)
    hidden = (distance < 0) | (distance >= window)
    scores = (queries.double() @ keys.transpose(2, 3)).masked_fill(hidden, -torch.inf)
    return scores.softmax(-1) @ values


def assert_close(y, queries, keys, values, window):
    """Weights and result are rounded to bf16; both are sums of values of about 1."""
    expected = exact(queries, keys, values, window)
    assert y.shape == expected.shape and y.dtype == HALF
    torch.testing.assert_close(y.double(), expected, atol=4 * 2**-8, rtol=2**-7)


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 3),
    together=st.integers(1, 3),
    group=st.integers(1, 5),
    length=st.integers(1, 50),
    before=st.integers(0, 90),
    width=st.sampled_from([32, 64, 256]),
    window=st.integers(1, 150),
)
def test_any_shape_and_window(batch, together, group, length, before, width, window):
    tensors = make(batch, together, group, length, before + length, width, seed=length)
    assert_close(attended(*tensors, window), *tensors, window)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_changes_nothing(threads):
    tensors = make(1, 2, 4, 70, 100, 64)
    before = torch.get_num_threads()
    first = attended(*tensors, 40)
    torch.set_num_threads(threads)
    try:
        assert torch.equal(attended(*tensors, 40), first)
    finally:
        torch.set_num_threads(before)


def test_what_no_query_may_see_changes_nothing():
    """Not by a bit, however large it is."""
    queries, keys, values = make(1, 2, 4, 33, 100, 64)
    before = attended(queries, keys, values, 20)
    keys[:, :, :48], values[:, :, :48] = 100.0, 1e4  # the first query is at 67
    assert torch.equal(attended(queries, keys, values, 20), before)
    part = attended(queries[:, :, :7], keys[:, :, :74], values[:, :, :74], 20)
    assert torch.equal(part, before[:, :, :7])


def test_scores_of_any_size():
    queries, keys, values = make(1, 1, 2, 20, 20, 32)
    tensors = queries.mul_(30), keys.mul_(30), values
    assert_close(attended(*tensors, 20), *tensors, 20)


def test_what_does_not_fit_is_left_to_torch():
    queries, keys, values = make(1, 2, 2, 5, 9, 32)
    assert causal_attention(queries.float(), keys.float(), values.float(), 9) is None
    assert causal_attention(queries[..., :16], keys[..., :16], values[..., :16], 9) is None
    assert causal_attention(queries.requires_grad_(), keys, values, 9) is None
    with torch.no_grad():
        assert causal_attention(queries, keys, values, 9) is not None


def test_sessions_in_threads_of_their_own():
    many = [make(1, 2, 4, 9 + n, 40 + n, 64, seed=n) for n in range(4)]
    alone = [attended(*tensors, 30) for tensors in many]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda tensors: attended(*tensors, window=30), many * 4))
    for mine, theirs in zip(together, alone * 4, strict=True):
        assert torch.equal(mine, theirs)
