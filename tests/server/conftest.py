"""Servers for tests: one on the bundled model, one on stages without a model."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from openai import OpenAI

from dragoman.captioner import Captioner
from dragoman.server.app import application
from dragoman.server.limits import Limits
from dragoman.server.serving import serving
from tests.pipeline.chains import in_process
from tests.pipeline.fake_stages import fakes


class FakeCaptioner(Captioner):
    """Says a word a chunk, of whatever it hears."""

    def __enter__(self) -> Captioner:
        self._chain = in_process(fakes())
        return self


@contextmanager
def served(captioner: Captioner, **options) -> Iterator[str]:
    """The address of a server, without the slash at its end."""
    app = application(captioner, **options)
    with serving(app, "127.0.0.1", 0, message_bytes=Limits().message_bytes) as url:
        yield url.rstrip("/")


@pytest.fixture(scope="session")
def fake():
    with FakeCaptioner() as captioner:
        yield captioner


@pytest.fixture(scope="module")
def real():
    with Captioner() as captioner:
        yield captioner


def client(url: str, key: str = "none") -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=120)
