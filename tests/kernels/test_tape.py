"""Recorded programs run in their order, with what they were given last."""

import pytest
import torch

from dragoman.kernels import norms, rows
from dragoman.kernels.tape import Tape

EPS = 1e-6


def norm(tape: Tape, x: torch.Tensor, y: torch.Tensor, wait: bool = True):
    return tape.add(
        rows.norm(False, None, EPS), wait, y=y.data_ptr(), x=x.data_ptr(), weight=0,
        rows=len(x), width=x.shape[1], stride=x.shape[1],
    )  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_each_reads_what_the_ones_before_have_written(threads):
    """Squares of one row by each thread become rows of another: a missing wait would show."""
    x, tape = torch.randn(64, 640), Tape(threads)
    memory = [x, *(torch.zeros_like(x) for _ in range(40))]
    for before, after in zip(memory, memory[1:], strict=False):
        norm(tape, before.view(-1, 32 + 288 * (len(tape) % 2)), after)
    tape.run()
    expected = x
    for k in range(40):
        width = 32 + 288 * (k % 2)
        expected = norms._by_torch(expected.view(-1, width), None, EPS).view_as(x)
    torch.testing.assert_close(memory[-1], expected, atol=1e-4, rtol=1e-4)


def test_arguments_may_change_between_runs():
    x, other, y = torch.randn(3, 32), torch.randn(3, 32), torch.zeros(3, 32)
    tape = Tape(2)
    given = norm(tape, x, y)
    tape.run()
    first = y.clone()
    given["x"] = other.data_ptr()
    tape.run()
    assert not torch.equal(y, first)
    torch.testing.assert_close(y, norms._by_torch(other, None, EPS))


def test_one_more_may_be_recorded_after_a_run():
    x, y, z = torch.randn(3, 32), torch.zeros(3, 32), torch.zeros(3, 32)
    tape = Tape(1)
    norm(tape, x, y, wait=False)
    tape.run()
    norm(tape, y, z)
    tape.run()
    assert len(tape) == 2 and z.any()


def test_arguments_have_their_names():
    with pytest.raises(ValueError, match="expected the arguments"):
        Tape(1).add(rows.norm(False, None, EPS), y=0)
