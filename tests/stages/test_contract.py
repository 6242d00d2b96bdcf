import pytest

from stages.contract import SessionError, StageHost
from stages.messages import SessionOptions


class Sum:
    """A stage that adds up numbers; it fails on a negative one and gives the sum at the end."""

    def init_state(self, options: SessionOptions) -> int:
        if options.language == "bad":
            raise ValueError("no such language")
        return 0

    def step(self, item: int, state: int) -> tuple[list[int], int]:
        if item < 0:
            raise ValueError("negative")
        return [state + item], state + item

    def flush(self, state: int) -> list[int]:
        return [-state]


@pytest.fixture
def host() -> StageHost[int, int, int]:
    host = StageHost(Sum())
    for name in "ab":
        host.open(name, SessionOptions())
    return host


def test_sessions_have_states_of_their_own(host):
    assert host.step("a", 0, [1, 2]) == [1, 3]
    assert host.step("b", 0, [10]) == [10]
    assert host.step("a", 1, []) == []
    assert host.step("a", 2, [3]) == [6]
    assert host.close("a") == [-6] and host.close("b") == [-10]
    assert host.sessions == []


@pytest.mark.parametrize("seq", [0, 2, -1])
def test_a_batch_out_of_order_is_refused_and_changes_nothing(host, seq):
    host.step("a", 0, [1])
    with pytest.raises(SessionError, match=rf"'a' expected batch 1, got {seq}"):
        host.step("a", seq, [5])
    assert host.step("a", 1, [1]) == [2]


def test_a_session_cannot_be_opened_twice(host):
    host.step("a", 0, [1])
    with pytest.raises(SessionError, match="'a' is already open"):
        host.open("a", SessionOptions())
    assert host.step("a", 1, [1]) == [2]


def test_an_unknown_session(host):
    with pytest.raises(SessionError, match="'c' is not open"):
        host.step("c", 0, [1])
    assert host.close("c") == []
    host.drop("c")


def test_a_failing_session_closes_alone_and_may_be_opened_again(host):
    host.step("b", 0, [7])
    with pytest.raises(ValueError, match="negative"):
        host.step("a", 0, [1, -1, 2])
    assert host.sessions == ["b"]
    with pytest.raises(SessionError, match="not open"):
        host.step("a", 1, [1])
    assert host.step("b", 1, [1]) == [8]
    host.open("a", SessionOptions())
    assert host.step("a", 0, [2]) == [2]


def test_a_session_that_cannot_be_opened_is_not_open(host):
    with pytest.raises(ValueError, match="no such language"):
        host.open("c", SessionOptions(language="bad"))
    assert host.sessions == ["a", "b"]


def test_dropping_does_not_flush(host):
    host.step("a", 0, [1])
    host.drop("a")
    assert host.close("a") == []
    host.open("a", SessionOptions())
    assert host.close("a") == [0]
