"""Captioners for the tests of the server: the bundled model, and stages without one."""

import pytest

from dragoman.captioner import Captioner
from tests.server.servers import FakeCaptioner


@pytest.fixture(scope="session")
def fake():
    with FakeCaptioner() as captioner:
        yield captioner


@pytest.fixture(scope="module")
def real():
    with Captioner() as captioner:
        yield captioner
