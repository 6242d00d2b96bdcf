"""A Ray for the tests of a module, where it asks for one."""

import pytest

from tests.pipeline.batches import ray_of_our_own


@pytest.fixture(scope="module")
def with_ray():
    with ray_of_our_own():
        yield
