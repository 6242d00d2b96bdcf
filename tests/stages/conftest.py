"""The model stages over the tiny checkpoint."""

import pytest

from stages.encode import EncodeStage


@pytest.fixture(scope="session")
def encode(tiny_folder) -> EncodeStage:
    return EncodeStage.load(str(tiny_folder))
