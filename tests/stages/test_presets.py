"""Named settings of how soon captions come."""

from typing import get_args

import pytest

from dragoman.errors import UsageError
from dragoman.pipeline.start import session_options
from dragoman.spec import ModelSpec
from dragoman.stages.messages import SessionOptions
from dragoman.stages.policies.commit import policy
from dragoman.stages.policies.presets import BALANCED, PRESETS, Latency


def test_the_balanced_one_is_what_a_session_has_by_default():
    assert session_options(ModelSpec()) == SessionOptions()
    assert session_options(ModelSpec(), latency=BALANCED) == SessionOptions()


def test_each_is_known_to_the_command_and_names_a_policy():
    assert get_args(Latency) == tuple(PRESETS)
    for name in PRESETS:
        assert policy(session_options(ModelSpec(), latency=name).commit_policy, lambda _: True)


def test_what_is_asked_for_itself_goes_before():
    asked = session_options(ModelSpec(), latency="low", endpoint_ms=900, commit_policy=None)
    low = session_options(ModelSpec(), latency="low")
    assert (asked.endpoint_ms, asked.update_chunks) == (900, low.update_chunks)
    assert asked.commit_policy == low.commit_policy


def test_another_name_is_refused():
    with pytest.raises(UsageError, match="low, balanced, quality"):
        session_options(ModelSpec(), latency="none")
