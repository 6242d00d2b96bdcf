import pytest

from dragoman.errors import SessionError
from dragoman.stages.contract import StageHost
from dragoman.stages.messages import SessionOptions


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
    assert host.names == []


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
    assert host.names == ["b"]
    with pytest.raises(SessionError, match="not open"):
        host.step("a", 1, [1])
    assert host.step("b", 1, [1]) == [8]
    host.open("a", SessionOptions())
    assert host.step("a", 0, [2]) == [2]


def test_a_session_that_cannot_be_opened_is_not_open(host):
    with pytest.raises(ValueError, match="no such language"):
        host.open("c", SessionOptions(language="bad"))
    assert host.names == ["a", "b"]


def test_dropping_does_not_flush(host):
    host.step("a", 0, [1])
    host.drop("a")
    assert host.close("a") == []
    host.open("a", SessionOptions())
    assert host.close("a") == [0]


class Together(Sum):
    """The same, for many streams at once; it notes how many there were each time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def step_batch(self, items, states):
        self.sizes.append(len(items))
        return [self._one(item, state) for item, state in zip(items, states, strict=True)]

    def _one(self, item, state):
        try:
            return self.step(item, state)
        except ValueError as error:
            return error


class Breaking(Together):
    def step_batch(self, items, states):
        if len(items) == 1:
            return super().step_batch(items, states)
        raise ArithmeticError("all of it")


def opened(stage) -> StageHost[int, int, int]:
    host = StageHost(stage)
    for name in "abc":
        host.open(name, SessionOptions())
    return host


@pytest.mark.parametrize("stage", [Sum, Together])
def test_many_sessions_at_once_equal_each_alone(stage):
    host = opened(stage())
    assert host.step_many([("a", 0, [1, 2]), ("b", 0, []), ("c", 0, [5, 6, 7])]) == [
        [1, 3],
        [],
        [5, 11, 18],
    ]
    assert host.step_many([("b", 1, [1]), ("a", 1, [1])]) == [[1], [4]]
    assert host.step("c", 1, [2]) == [20]


def test_a_stage_that_can_is_stepped_once_for_all_streams_that_have_something():
    stage = Together()
    host = opened(stage)
    host.step_many([("a", 0, [1, 2]), ("b", 0, []), ("c", 0, [5, 6, 7])])
    assert stage.sizes == [2, 2, 1]


@pytest.mark.parametrize("kind", [Sum, Together])
def test_in_company_a_session_still_fails_alone(kind):
    stage = kind()
    host = opened(stage)
    a, b, c = host.step_many([("a", 0, [1, 2, 3]), ("b", 0, [1, -1, 2]), ("c", 7, [1])])
    assert a == [1, 3, 6]
    assert isinstance(b, ValueError) and str(b) == "negative"
    assert isinstance(c, SessionError) and "expected batch 0, got 7" in str(c)
    assert host.names == ["c", "a"]
    assert getattr(stage, "sizes", [2, 2, 1]) == [2, 2, 1], "what follows a failure is not run"
    assert host.step_many([("a", 1, [1]), ("b", 1, [1]), ("c", 0, [1])])[::2] == [[7], [1]]


def test_a_session_twice_in_one_company_is_refused_the_second_time(host):
    first, second = host.step_many([("a", 0, [1]), ("a", 1, [1])])
    assert first == [1] and isinstance(second, SessionError)
    assert host.step("a", 1, [1]) == [2]


def test_a_batch_that_breaks_its_contract_closes_all_its_sessions_but_not_the_host():
    host = opened(Breaking())
    a, b = host.step_many([("a", 0, [1]), ("b", 0, [1])])
    assert isinstance(a, ArithmeticError) and isinstance(b, ArithmeticError)
    assert host.names == ["c"]
    assert host.step("c", 0, [1]) == [1]


def test_a_session_may_begin_at_any_number():
    host = StageHost(Sum())
    host.open("a", SessionOptions(), seq=4)
    with pytest.raises(SessionError, match="expected batch 4, got 0"):
        host.step("a", 0, [1])
    assert host.step("a", 4, [1]) == [1]
