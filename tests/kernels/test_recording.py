"""Recorded kernels run in their order, with what they were given last."""

import math

import pytest
import torch
import torch.nn.functional as F

from dragoman.kernels import frames
from dragoman.kernels.recording import Recording

EPS = 1e-6
ONES = torch.ones(640)


def norm(recording: Recording, x: torch.Tensor, y: torch.Tensor, wait: bool = True):
    return recording.add(
        frames.norm(False, math.inf, EPS, None), wait, y=y.data_ptr(), x=x.data_ptr(), onto=0,
        weight=ONES.data_ptr(), rows=len(x), width=x.shape[1],
    )  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_each_reads_what_the_ones_before_have_written(threads):
    """Squares of one row by each thread become rows of another: a missing wait would show."""
    x, recording = torch.randn(64, 640), Recording(threads)
    memory = [x, *(torch.zeros_like(x) for _ in range(40))]
    for before, after in zip(memory, memory[1:], strict=False):
        norm(recording, before.view(-1, 32 + 288 * (len(recording) % 2)), after)
    recording.replay()
    expected = x
    for k in range(40):
        width = 32 + 288 * (k % 2)
        expected = F.rms_norm(expected.view(-1, width), (width,), None, EPS).view_as(x)
    torch.testing.assert_close(memory[-1], expected, atol=1e-4, rtol=1e-4)


def test_arguments_may_change_between_runs():
    x, other, y = torch.randn(3, 32), torch.randn(3, 32), torch.zeros(3, 32)
    recording = Recording(2)
    given = norm(recording, x, y)
    recording.replay()
    first = y.clone()
    given["x"] = other.data_ptr()
    recording.replay()
    assert not torch.equal(y, first)
    torch.testing.assert_close(y, F.rms_norm(other, (32,), None, EPS))


def test_one_more_may_be_recorded_after_a_run():
    x, y, z = torch.randn(3, 32), torch.zeros(3, 32), torch.zeros(3, 32)
    recording = Recording(1)
    norm(recording, x, y, wait=False)
    recording.replay()
    norm(recording, y, z)
    recording.replay()
    assert len(recording) == 2 and z.any()


def test_arguments_have_their_names():
    with pytest.raises(ValueError, match="expected the arguments"):
        Recording(1).add(frames.norm(False, math.inf, EPS, None), y=0)
