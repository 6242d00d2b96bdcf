"""Kernels are tested where they can be made and nobody has switched them off."""

import pytest
import torch

from dragoman.kernels import available

collect_ignore_glob = [] if available() else ["test_*.py"]


@pytest.fixture(autouse=True)
def threads_as_before():
    """Tests may change the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
